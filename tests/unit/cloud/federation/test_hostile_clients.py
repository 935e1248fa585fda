"""Clients that come back, come early, cheat, or do not listen: what a federation then does."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_cloud.federation.members import Members
from sft_cloud.federation.record import RoundRecord
from sft_cloud.federation.round import Round, Update
from sft_common.errors import CapacityError, ForbiddenError, RetryLaterError
from sft_common.federation.plan import MAX_CLIENTS
from sft_common.federation.said import Attempt, Finding
from tests.unit.cloud.federation.scene import SHARED, Beginning, Scene, led, plan, play


async def drawn(scene: Scene) -> Round:
    """Wait for the first try; returns it."""
    await scene.until(lambda: scene.federation.round is not None)
    tried = scene.federation.round
    assert tried is not None
    return tried


def test_nobody_trains_or_hands_in_before_its_turn() -> None:
    """It would train a net2 that others have not trained yet, and theirs would be lost."""

    async def story() -> None:
        known = plan(**SHARED, rounds=1)
        async with led(known, Beginning(cloud=True)) as scene:
            scene.join("a", "b", "c")
            first, second, third = (await drawn(scene)).drawn
            work = await scene.work(first)
            with pytest.raises(ForbiddenError, match="its turn has not come"):
                scene.federation.net2_for(third, "", 1, work.attempt)
            scene.nets[third] = {"n": torch.tensor([99.0])}
            with pytest.raises(ForbiddenError, match="its turn has not come"):
                await scene.hand_in(third, work, 9.0, session_id=third)
            for client in (first, second, third):
                scene.nets[client] = {"n": torch.tensor([1.0])}
                await scene.hand_in(client, work, 2.0, session_id=client)
                if client != third:
                    await scene.work({first: second, second: third}[client])
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.federation.progress.state.cloud["n"].item() == 1.0

    play(story())


def test_an_answer_that_was_lost_is_given_again_when_the_round_is_over() -> None:
    async def story() -> None:
        async with led(plan(rounds=2)) as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            for client in "abc":
                await scene.hand_in(client, works[client], 1.0)
            await scene.until(lambda: scene.federation.progress.done == 1)
            await scene.hand_in("c", works["c"], 500.0)
            assert scene.average == [1.0, 1.0]
            await scene.work("a")
            await scene.hand_in("c", works["c"], 500.0)
            with pytest.raises(ForbiddenError, match="is over"):
                await scene.hand_in("d", works["c"], 1.0)

    play(story())


def test_a_cloud_that_stops_takes_nobody_and_nothing_any_more() -> None:
    """A client that comes back at once would hold up the end for as long as --grace."""

    async def story() -> None:
        async with led(plan()) as scene:
            scene.join("a", "b", "c")
            work = await scene.work("a")
            scene.federation.stop()
            with pytest.raises(RetryLaterError, match="is stopping"):
                scene.join("a")
            with pytest.raises(RetryLaterError, match="is stopping"):
                await scene.hand_in("b", work, 1.0)

    play(story())


def test_work_that_a_client_has_not_heard_is_taken_back() -> None:
    """One that never reads would else keep an average of each round in memory."""

    async def story() -> None:
        known = plan(rounds=9, round_seconds=0.5, per_round=3, minimum=3, quorum=2)
        async with led(known) as scene:
            scene.join("a", "b", "deaf")
            for _ in range(3):
                works = {client: await scene.work(client) for client in "ab"}
                for client, work in works.items():
                    await scene.hand_in(client, work, 1.0)
            await scene.work("a")
            there = scene.federation.round
            assert there is not None and (await scene.work("deaf")).attempt == there.attempt

    play(story())


def test_a_bound_of_clients() -> None:
    async def story() -> None:
        members: Members[str] = Members(60, lambda _: None)
        for number in range(MAX_CLIENTS):
            members.sit(f"c{number}", "", 1)
        with pytest.raises(CapacityError, match=f"has {MAX_CLIENTS:,} clients, and takes no more"):
            members.sit("one-more", "", 1)
        members.sit("c0", "", 2)

    play(story())


def finding(**changes: Any) -> Finding:
    usual = Finding(examples=1, metric="accuracy", value=0.5, loss=1.0)
    return dataclasses.replace(usual, **changes)


def test_the_mean_of_extreme_findings_is_a_number() -> None:
    tried = Round(Attempt(1, 1), "train", ["a", "b"])
    tried.ask(["a", "b"])
    for client in "ab":
        update = Update(weight=1, tensors={}, finding=finding(examples=2**40, loss=1e308))
        tried.take(client, update)
    record = RoundRecord.of(tried, began=0.0, ended=1.0, counts=True, received=0, sent=0)
    assert record.loss is not None and math.isfinite(record.loss)
    json.dumps(record.facts(), allow_nan=False)


def test_hostile_moments_make_no_average_that_is_no_number(tmp_path: Path) -> None:
    class Rotten(Beginning):
        def calibrated(self, duty: str, found: object, before: object) -> object:  # type: ignore[override]
            state = super().calibrated(duty, {}, before)  # type: ignore[arg-type]
            return dataclasses.replace(state, code={"d": torch.tensor([float("nan")])})

    async def story() -> None:
        async with led(plan(rounds=1), Rotten("calibrate-cut"), tmp_path / "f") as scene:
            scene.join("a", "b", "c")
            for client in "abc":
                work = await scene.work(client)
                await scene.hand_in(client, work, 1.0, name="mean")
            await scene.until(lambda: scene.federation.failure is not None)
            assert "not finite" in str(scene.federation.failure)
            assert not (tmp_path / "f" / "averages").exists()

    play(story())
