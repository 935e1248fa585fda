"""A session that is deleted stays deleted, whatever was about to be written of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sft_cloud.store
from sft_cloud.host import Host, Limits, Opening
from sft_cloud.hosted import Visit
from sft_cloud.scheduler import Scheduler
from sft_cloud.store import Store
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.errors import CapacityError, ForbiddenError
from tests.doubles import ReadyMade, open_session

SPLIT = SplitSpec(split_layer=2, rank=4)
SPEC = SessionSpec(model=ModelIdentity(name="tiny"), split=SPLIT, num_labels=2)


@pytest.fixture
def host(tiny_model: Path, tmp_path: Path) -> Iterator[Host]:
    scheduler = Scheduler(4)
    session, _ = open_session(tiny_model, SPLIT)

    yield Host(
        builder=ReadyMade(lambda: session),
        scheduler=scheduler,
        limits=Limits(),
        store=Store(tmp_path / "sessions"),
    )
    scheduler.close()


async def opened(host: Host, told: list[Exception]) -> Visit:
    visit, _ = await host.open(Opening(spec=SPEC), "lab", told.append)
    return visit


def train(visit: Visit, step: int) -> None:
    visit.session.step(step, torch.zeros(3, 4), [2, 1], [0, 1])
    visit.session.apply(step, 1e-3)


def held(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, *go: threading.Event) -> None:
    """Have each call of a function wait for an event of its own."""
    real, left = getattr(place, name), iter(go)

    def waiting(*arguments: Any) -> Any:
        next(left).wait(60)
        return real(*arguments)

    monkeypatch.setattr(place, name, waiting)


def run(story: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_snapshot_that_waits_for_another_is_not_written(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, told = threading.Event(), threading.Event(), list[Exception]()
    held(monkeypatch, Store, "note", first, second)

    async def story() -> None:
        before = asyncio.all_tasks()
        visit = await opened(host, told)
        name = visit.session.session_id
        train(visit, 1)
        await host.keep(visit, 1)
        await asyncio.sleep(0.05)
        train(visit, 2)
        keeping = asyncio.ensure_future(host.keep(visit, 2))
        await asyncio.sleep(0.05)
        deleting = asyncio.ensure_future(host.delete(name))
        await asyncio.sleep(0.05)
        assert not deleting.done()
        first.set()
        await keeping
        assert await deleting
        second.set()
        await asyncio.gather(*(asyncio.all_tasks() - before))
        assert host.store is not None and not host.store.has(name)
        assert [type(error) for error in told] == [ForbiddenError]
        assert not len(host.residents) and not await host.delete(name)

    run(story)


def test_a_session_that_is_being_closed_leaves_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, told = threading.Event(), list[Exception]()
    held(monkeypatch, sft_cloud.store, "save_tensors", go)

    async def story() -> None:
        visit = await opened(host, told)
        name = visit.session.session_id
        train(visit, 1)
        closing = asyncio.ensure_future(host.close(visit))
        await asyncio.sleep(0.05)
        assert host.store is not None and host.store.has(name)
        deleting = asyncio.ensure_future(host.delete(name))
        await asyncio.sleep(0.05)
        go.set()
        with pytest.raises(CapacityError, match="could not keep session"):
            await closing
        assert await deleting and not host.store.has(name)

    run(story)


def test_a_session_in_memory_is_not_forgotten_for_what_is_on_disk(host: Host) -> None:
    async def story() -> None:
        visit = await opened(host, [])
        name = visit.session.session_id
        train(visit, 1)
        await host.keep(visit, 1)
        await visit.hosted.written()
        assert not await host.delete(name, from_disk_only=True)
        assert await host.park(visit) is not None
        assert await host.delete(name, from_disk_only=True)

    run(story)


def test_a_request_that_came_before_the_end_is_told_the_same(host: Host) -> None:
    """It was read already when the session was taken from its stream."""

    async def story() -> None:
        visit = await opened(host, [])
        assert await host.delete(visit.session.session_id)
        with pytest.raises(ForbiddenError, match="was deleted by the owner of the cloud"):
            visit.seen()

    run(story)
