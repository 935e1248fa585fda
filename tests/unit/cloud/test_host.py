"""Sessions come and go; what breaks on the way leaves no place taken."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sft_cloud.trainings
from sft_cloud import forgetting
from sft_cloud.answers import store
from sft_cloud.host import Host, Limits, Opening
from sft_cloud.hosted import Visit
from sft_cloud.kept import kept_sessions
from sft_cloud.scheduler import Scheduler
from sft_cloud.store import Store
from sft_cloud.training_files import TrainingFiles
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.errors import (
    ConfigError,
    LimitError,
    MismatchError,
    RetryLaterError,
    SessionLostError,
    SnapshotError,
)
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.plan import Plan
from sft_common.position import Position, Return
from sft_common.snapshots import Snapshot, Snapshots
from sft_common.wire.codec import tensor_to_parts
from tests.doubles import ReadyMade, open_session

SPEC = SessionSpec(
    model=ModelIdentity(name="tiny"), split=SplitSpec(split_layer=2, rank=4), num_labels=2
)

STATE = "0123456789abcdef"


def run(model: Path, folder: Path, scene: Callable[[Host], Awaitable[None]], **limits: Any) -> None:
    """Run a scene with a host of tiny sessions."""
    build = ReadyMade(lambda: open_session(model, SPEC.split)[0])

    async def go() -> None:
        scheduler = Scheduler(2)
        store = Store(folder)
        host = Host(
            builder=build, scheduler=scheduler, limits=Limits(max_sessions=2, **limits), store=store
        )
        try:
            await scene(host)
        finally:
            scheduler.close()

    asyncio.run(go())


def stopped(error: Exception) -> None:
    raise AssertionError(error)


async def opened(host: Host) -> Any:
    visit, _ = await host.open(Opening(spec=SPEC), "", stopped)
    return visit


async def parked(host: Host) -> str:
    """Return the name of a session that lies on the disk."""
    visit = await opened(host)
    visit.session.step(1, torch.randn(4, 4), [3, 1], [0, 1])
    visit.session.apply(1, 1e-3)
    assert await host.park(visit)
    return str(visit.session.session_id)


def test_a_stream_that_breaks_while_its_session_comes_back_leaves_its_place(
    tiny_model: Path, tmp_path: Path
) -> None:
    """An edge that did so again and again would close the cloud for everybody."""

    async def scene(host: Host) -> None:
        name, here = await parked(host), Position(1)
        asked = Return(session_id=name, spec=SPEC, incarnation=0, confirmed=here, sent=here)
        shelf: Any = host._shelf
        settle, begun = shelf.settle, asyncio.Event()

        async def slow(*_: object, **__: object) -> int:
            begun.set()
            await asyncio.sleep(60)
            return 0

        shelf.settle = slow
        for _ in range(3):
            begun.clear()
            coming = asyncio.create_task(host.resume(asked, "", stopped))
            await asyncio.wait_for(begun.wait(), 20)
            coming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await coming
        assert host.residents.admission.taken == 0
        shelf.settle = settle
        visit, rewound = await host.resume(asked, "", stopped)
        assert (visit.session.applied, rewound) == (1, False)

    run(tiny_model, tmp_path, scene)


def test_a_session_that_is_gone_is_not_put_away_over_its_newer_self(
    tiny_model: Path, tmp_path: Path
) -> None:
    async def scene(host: Host) -> None:
        visit = await opened(host)
        old = visit.hosted
        old.session.step(1, torch.randn(4, 4), [3, 1], [0, 1])
        assert await host.park(visit)
        written = sorted(tmp_path.rglob("snapshot.json"))
        times = [path.stat().st_mtime_ns for path in written]
        assert not await host.residents.put_away(old)
        assert [path.stat().st_mtime_ns for path in written] == times

    run(tiny_model, tmp_path, scene)


@pytest.mark.parametrize("breaks", [True, False])
def test_work_that_fails_after_its_stream_broke_is_no_defect(
    tiny_model: Path, tmp_path: Path, breaks: bool
) -> None:
    """Whether somebody waited for it when the stream broke, or was about to."""

    async def scene(host: Host) -> None:
        hosted, logged = (await opened(host)).hosted, []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        work = asyncio.get_running_loop().create_future()
        waiting = hosted.working(work)
        if breaks:
            waiter = asyncio.ensure_future(asyncio.wait_for(waiting, 60))
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])
        work.set_exception(LimitError("too much"))
        await asyncio.sleep(0.01)
        hosted._work = None
        del work, waiting
        gc.collect()
        assert not logged

    run(tiny_model, tmp_path, scene)


def stored(host: Host, visit: Any) -> None:
    """Keep three examples of a session, and one to evaluate on."""
    hosted = visit.hosted
    draw = torch.Generator().manual_seed(1)
    hosted.cache = host.trainings.new_cache(hosted.session)
    for part, labels in ((0, [0, 1, 1]), (1, [])):
        tensor, numbers = tensor_to_parts(torch.randn(6, 4, generator=draw))
        message = pb.Store(part=part, activation=tensor, lengths=[1, 2, 3], labels=labels)
        store(hosted.session, hosted.cache, message, numbers)


def test_a_training_whose_story_would_fill_the_memory_is_refused_before_it_begins(
    tiny_model: Path, tmp_path: Path
) -> None:
    """As it is with one whose steps no message can count."""

    async def scene(host: Host) -> None:
        visit = await opened(host)
        stored(host, visit)
        plan: dict[str, Any] = {"batch_size": 1, "learning_rate": 1e-3, "seed": 0}
        with pytest.raises(ConfigError, match=rf"{3 * 2**40} steps is outside 1\.\.{2**40}"):
            await host.train_stored(visit, Plan(epochs=2**40, **plan))
        with pytest.raises(LimitError, match="story of 60,000,000 steps and 20,000,000 evaluation"):
            await host.train_stored(visit, Plan(epochs=20_000_000, **plan))
        assert not visit.hosted.training
        assert await host.train_stored(visit, Plan(epochs=2, **plan)) == 6

    run(tiny_model, tmp_path, scene)


def test_a_session_that_trains_alone_is_not_given_up_for_a_new_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Its memory would be counted as free while it goes on."""

    async def scene(host: Host) -> None:
        visit = await opened(host)
        stored(host, visit)
        await host.train_stored(visit, Plan(epochs=50, batch_size=1, learning_rate=1e-3, seed=0))
        name = visit.session.session_id
        await host.open(Opening(spec=SPEC, replaces=name), "", stopped)
        assert host.residents.admission.taken == 2
        events = [event async for event in host.trainings.follow(name, 0, "")]
        assert events[-1].steps == 150
        await asyncio.sleep(0)
        assert host.residents.admission.taken == 1

    run(tiny_model, tmp_path, scene)


def test_a_stream_that_breaks_while_its_session_is_closed_does_not_undo_that(
    tiny_model: Path, tmp_path: Path
) -> None:
    """The session would be put away later, as one that goes on."""

    async def scene(host: Host) -> None:
        visit = await opened(host)
        visit.session.step(1, torch.randn(4, 4), [3, 1], [0, 1])
        visit.session.apply(1, 1e-3)
        keep, begun, name = host.results.keep, asyncio.Event(), visit.session.session_id

        async def slow(*arguments: Any) -> None:
            await keep(*arguments)
            begun.set()
            await asyncio.sleep(0.05)

        host.results.keep = slow  # type: ignore[method-assign]
        closing = asyncio.create_task(host.close(visit))
        await begun.wait()
        closing.cancel()
        await asyncio.wait([closing])
        visit.leave()
        await visit.hosted.quiet()
        assert len(host.residents) == 0
        ending = host.results.ending(name, "")
        assert ending == (1, True) and host.store is not None
        assert host.store.record(name).finished

    run(tiny_model, tmp_path, scene)


def test_a_deleted_training_that_is_just_coming_back_does_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is built on a thread meanwhile; nothing of it appears on disk again."""
    name = unfinished_training(tiny_model, tmp_path)
    begun, go, rebuild = threading.Event(), threading.Event(), sft_cloud.trainings.rebuilt

    def slow(*arguments: Any) -> Any:
        begun.set()
        go.wait(60)
        return rebuild(*arguments)

    monkeypatch.setattr(sft_cloud.trainings, "rebuilt", slow)

    async def scene(host: Host) -> None:
        await host.begin()
        while not begun.is_set():
            await asyncio.sleep(0.01)
        assert await host.delete(name)
        go.set()
        await host.stop()
        assert len(host.residents) == 0 and host.residents.admission.taken == 0
        assert not (tmp_path / name).exists()

    run(tiny_model, tmp_path, scene)


def unfinished_training(model: Path, folder: Path) -> str:
    """Leave a training on disk that a cloud has begun and put away; returns its session."""
    names = []

    async def scene(host: Host) -> None:
        visit = await opened(host)
        stored(host, visit)
        await host.train_stored(visit, Plan(epochs=5000, batch_size=1, learning_rate=1e-3, seed=0))
        names.append(visit.session.session_id)
        await host.stop()
        assert host.trainings.goes_on(names[0]) is False and len(host.residents) == 0

    run(model, folder, scene)
    return str(names[0])


def test_a_stop_while_trainings_wait_or_come_back_ends_at_once(
    tiny_model: Path, tmp_path: Path
) -> None:
    names = [unfinished_training(tiny_model, tmp_path) for _ in range(3)]
    before = {name: sorted(path.name for path in (tmp_path / name).iterdir()) for name in names}

    async def scene(host: Host) -> None:
        await host.begin()
        followers = [
            asyncio.ensure_future(anext(host.trainings.follow(name, 10**6, ""))) for name in names
        ]
        await asyncio.sleep(0.3)
        await host.stop()
        for follower in followers:
            with pytest.raises(RetryLaterError, match="it keeps the session"):
                await follower

    run(tiny_model, tmp_path, scene)
    assert before == {
        name: sorted(path.name for path in (tmp_path / name).iterdir()) for name in names
    }


def test_nobody_hears_that_a_training_runs_before_it_is_on_disk(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an edge whose stream broke meanwhile, and that asks again."""
    begun, go, begin = threading.Event(), threading.Event(), TrainingFiles.begin

    def slow(*arguments: Any) -> None:
        begun.set()
        go.wait(60)
        begin(*arguments)

    monkeypatch.setattr(TrainingFiles, "begin", slow)

    async def scene(host: Host) -> None:
        visit = await opened(host)
        stored(host, visit)
        plan = Plan(epochs=2, batch_size=1, learning_rate=1e-3, seed=0)
        starting = asyncio.create_task(host.train_stored(visit, plan))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        starting.cancel()
        name = visit.session.session_id
        asked = asyncio.create_task(host.trainings.total_steps(name, ""))
        await asyncio.sleep(0.05)
        assert not asked.done()
        go.set()
        assert await asked == 6
        assert (tmp_path / name / "training" / "begun").exists()

    run(tiny_model, tmp_path, scene)


def test_examples_are_counted_though_nobody_waits_for_them_any_more(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A stream that breaks while a batch is written: the edge would send it once more."""

    async def scene(host: Host) -> None:
        visit = await opened(host)
        stored(host, visit)
        hosted, go = visit.hosted, threading.Event()
        tensor, numbers = tensor_to_parts(torch.randn(2, 4))
        message = pb.Store(activation=tensor, lengths=[2], labels=[1])

        def slow() -> None:
            go.wait(60)
            assert hosted.cache is not None
            store(hosted.session, hosted.cache, message, numbers)

        waiting = asyncio.ensure_future(hosted.working(host.scheduler.files(slow)))
        waiting.cancel()
        assert hosted.position.stored == 2
        go.set()
        await hosted.quiet()
        assert hosted.position.stored == 3
        host.residents.drop(hosted)

    run(tiny_model, tmp_path, scene)


def test_what_a_killed_cloud_left_of_trainings_that_ended_is_deleted(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Examples are the edge's, and their index lies beside them."""
    name = unfinished_training(tiny_model, tmp_path)
    (tmp_path / name / "training" / "begun" / "snapshot.json").unlink()  # it was about to be

    async def scene(host: Host) -> None:
        await host.begin()

    run(tiny_model, tmp_path, scene)
    assert (tmp_path / name / "session.json").exists()
    assert not (tmp_path / name / "examples.bin").exists()
    assert not (tmp_path / name / "training" / "begun").exists()


def test_one_odd_file_keeps_no_cloud_from_starting(tiny_model: Path, tmp_path: Path) -> None:
    odd, good = (unfinished_training(tiny_model, tmp_path) for _ in range(2))
    marks = Snapshots(tmp_path / odd / "training")
    mark = marks.read("begun")
    marks.write("begun", Snapshot({**mark.facts, "plan": {"of": "the future"}}, mark.tensors))

    async def scene(host: Host) -> None:
        await host.begin()
        assert host.trainings.goes_on(good) and not host.trainings.goes_on(odd)
        await host.stop()

    run(tiny_model, tmp_path, scene)


async def train(visit: Visit, *steps: int) -> dict[str, torch.Tensor]:
    """Take steps; returns copies of the weights behind the last."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        visit.session.step(step, torch.randn(4, 4, generator=generator), [3, 1], [0, 1])
        visit.session.apply(step, 1e-2)
    return {name: weight.clone() for name, weight in visit.session.weights().items()}


def differ(mine: dict[str, torch.Tensor], its: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(weight, its[name]) for name, weight in mine.items())


@pytest.mark.parametrize("where", ["in memory", "put away", "closed"])
def test_a_session_goes_to_its_state_wherever_it_is(
    tiny_model: Path, tmp_path: Path, where: str
) -> None:
    """And the fresh one whose place it takes leaves nothing."""

    async def scene(host: Host) -> None:
        visit, _ = await host.open(Opening(spec=SPEC), "", ended)
        await train(visit, 1)
        assert await host.save(visit, STATE) == await host.save(visit, STATE) == ""
        expected = await train(visit, 2)
        name = visit.session.session_id
        match where:
            case "put away":
                await host.park(visit)
            case "closed":
                assert (await host.close(visit)).saved
        fresh = await host.open(Opening(spec=SPEC), "", ended)
        before = host.residents.admission.taken
        asked = Return(session_id=name, spec=SPEC, incarnation=7, state=STATE)
        asked = dataclasses.replace(asked, replaces=fresh[0].session.session_id)
        again = await host.go_to(asked, "", stopped)
        assert again.session.applied == 1 and not fresh[0].current
        assert [hosted.record.session for hosted in host.residents] == [name]
        assert host.residents.admission.taken == before - (where == "in memory")
        assert host.store is not None and host.store.names() == [name]
        assert not differ(await train(again, 2), expected)
        assert (await host.close(again)).saved
        with pytest.raises(SessionLostError, match="that state of session .* no more: .* newest 2"):
            await host.go_to(dataclasses.replace(asked, state="f" * 16), "", stopped)
        with pytest.raises(SessionLostError, match="this cloud has no session"):
            await host.go_to(asked, "somebody else", stopped)

    ended = list[Exception]().append
    run(tiny_model, tmp_path, scene)


def test_a_state_that_cannot_be_had_costs_the_fresh_session_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    async def scene(host: Host) -> None:
        visit = await opened(host)
        await train(visit, 1)
        assert await host.save(visit, STATE) == ""
        name, fresh = visit.session.session_id, await opened(host)
        asked = Return(session_id=name, spec=SPEC, incarnation=7, state=STATE)
        asked = dataclasses.replace(asked, replaces=fresh.session.session_id)
        other = dataclasses.replace(SPEC, seed=9)
        with pytest.raises(MismatchError, match="another seed: 0 there, 9 asked"):
            await host.go_to(dataclasses.replace(asked, spec=other), "", stopped)
        (file,) = tmp_path.glob(f"{name}/states/*/weights.safetensors")
        file.write_bytes(b"spoiled")
        with pytest.raises(SnapshotError, match="is damaged"):
            await host.go_to(asked, "", stopped)
        assert fresh.current and visit.current
        await train(visit, 2)

    run(tiny_model, tmp_path, scene)


def test_the_newest_states_stay_and_one_of_a_stream_that_broke_is_free(
    tiny_model: Path, tmp_path: Path
) -> None:
    async def scene(host: Host) -> None:
        visit = await opened(host)
        names = [f"{number:016x}" for number in (9, 5, 7)]  # not in the order of their names
        for step, name in enumerate(names, start=1):
            await train(visit, step)
            assert await host.save(visit, name) == ""
        assert host.store is not None
        kept = host.store.states(visit.session.session_id).names()
        assert kept == [
            f"step-0000000{step}-{name}" for step, name in ((2, names[1]), (3, names[2]))
        ]
        shelf: Any = host._shelf
        settle, begun = shelf.settle, asyncio.Event()

        async def slow(*_: object, **__: object) -> int:
            begun.set()
            await asyncio.sleep(60)
            return 0

        shelf.settle = slow
        asked = Return(
            session_id=visit.session.session_id, spec=SPEC, incarnation=7, state=names[1]
        )
        visit.leave()
        coming = asyncio.create_task(host.go_to(asked, "", stopped))
        await asyncio.wait_for(begun.wait(), 20)
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        assert host.residents.waiting() == [visit.hosted]
        shelf.settle = settle
        assert (await host.go_to(asked, "", stopped)).session.applied == 2

    run(tiny_model, tmp_path, scene)


def test_a_session_that_gives_way_after_steps_is_put_away(tiny_model: Path, tmp_path: Path) -> None:
    """It may have states of its own, which its script has saved."""

    async def scene(host: Host) -> None:
        visit = await opened(host)
        await train(visit, 1)
        assert await host.save(visit, STATE) == ""
        name = visit.session.session_id
        await host.park(visit)
        other, _ = await host.open(Opening(spec=SPEC), "", list[Exception]().append)
        expected = await train(other, 1, 2)
        asked = Return(session_id=name, spec=SPEC, incarnation=7, state=STATE)
        asked = dataclasses.replace(asked, replaces=other.session.session_id)
        assert (await host.go_to(asked, "", stopped)).session.applied == 1
        assert [hosted.record.session for hosted in host.residents] == [name]
        here = Position(2)
        back = Return(
            session_id=asked.replaces, spec=SPEC, incarnation=0, confirmed=here, sent=here
        )
        again, rewound = await host.resume(back, "", stopped)
        assert not rewound and not differ(await train(again), expected)

    run(tiny_model, tmp_path, scene)


def test_a_finished_session_is_forgotten_but_for_what_it_has_come_to(
    tiny_model: Path, tmp_path: Path
) -> None:
    async def scene(host: Host) -> None:
        visit = await opened(host)
        await train(visit, 1)
        assert await host.save(visit, STATE) == ""
        await host.close(visit)
        assert host.store is not None
        (kept,) = kept_sessions(host.store)
        assert (kept.state, kept.snapshots) == ("finished", (f"step-00000001-{STATE}",))
        await forgetting._forget(host, host.store, -60.0)  # whatever is older than in a minute
        (kept,) = kept_sessions(host.store)
        assert (kept.state, kept.snapshots, kept.steps) == ("finished", (), 1)
        assert host.results.load(kept.session, "", SPEC)

    run(tiny_model, tmp_path, scene)
