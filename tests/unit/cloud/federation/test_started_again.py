"""A federation whose cloud is started again, with the same file or with another."""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path

import pytest

from sft_cloud.federation.keeping import Keeper, plan_facts
from sft_cloud.federation.round import Update
from sft_cloud.federation.state import State
from sft_common.errors import ConfigError, ForbiddenError, SnapshotError
from sft_common.federation.plan import FederationPlan
from sft_common.federation.said import Finding, Over, Work
from sft_common.rpc.federation import plan_digest
from tests.unit.cloud.federation.scene import Beginning, given, led, plan, play


async def killed(known: FederationPlan, folder: Path, *averages: float) -> Work:
    """Be a cloud that is killed behind some averages; returns what client a was to do next."""
    async with led(known, folder=folder) as scene:
        scene.join("a", "b", "c")
        for value in averages:
            await scene.one_round(value)
        return await scene.work("a")


def test_a_cloud_that_is_started_again_goes_on_behind_its_last_average(tmp_path: Path) -> None:
    async def after(stale: Work) -> None:
        async with led(plan(rounds=3), folder=tmp_path) as scene:
            scene.join("a", at=stale.attempt)
            assert isinstance(await scene.hear("a"), Over)
            scene.join("b", "c")
            work = await scene.work("a")
            assert work.attempt[:2] == stale.attempt[:2] and work.attempt != stale.attempt
            assert given(work) == [2.0, 2.0]
            with pytest.raises(ForbiddenError, match="round 3, try 3 is over"):
                await scene.hand_in("a", stale, 50.0)
            assert [record.round for record in scene.federation.progress.records] == [1, 2]

    stale = asyncio.run(killed(plan(rounds=3), tmp_path, 1.0, 2.0))
    play(after(stale))


def test_a_cloud_that_is_started_again_has_those_who_come_back_look_at_the_last_average(
    tmp_path: Path,
) -> None:
    known = plan(rounds=1, patience_seconds=1.0)

    async def after(stale: Work) -> None:
        async with led(known, folder=tmp_path) as scene:
            await scene.until(lambda: scene.federation.progress.done == 1)
            for client in "ab":
                await asyncio.sleep(0.05)
                scene.join(client, at=stale.attempt)
            for client in "ab":
                assert isinstance(await scene.hear(client), Over)
                work = await scene.work(client)
                assert work.duty == "evaluate"
                found = Finding(examples=1, metric="accuracy", value=0.75, loss=0.5)
                await scene.hand_in_data(client, work, Update(weight=1, tensors={}, finding=found))
            await scene.until(lambda: scene.federation.ended)
            last = scene.federation.progress.records[-1]
            assert (last.duty, last.arrived, last.value) == ("evaluate", ["a", "b"], 0.75)

    play(after(asyncio.run(killed(known, tmp_path, 1.0))))


def test_a_last_look_does_not_wait_for_ever(tmp_path: Path) -> None:
    known = plan(rounds=1, patience_seconds=0.1)

    async def after() -> None:
        async with led(known, folder=tmp_path) as scene:
            await scene.until(lambda: scene.federation.ended)
            assert (tmp_path / "model").is_dir()

    asyncio.run(killed(known, tmp_path, 1.0))
    play(after())


def test_a_damaged_average_is_passed_over_for_the_one_before_it(tmp_path: Path) -> None:
    async def behind_one() -> None:
        async with led(plan(rounds=3), folder=tmp_path) as scene:
            scene.join("a", "b", "c")
            work = await scene.work("a")
            assert work.attempt.round == 2 and given(work) == [1.0, 1.0]

    async def none() -> None:
        async with led(plan(rounds=3), folder=tmp_path) as scene:
            scene.join("a")
            with pytest.raises(SnapshotError, match="none of the averages in .* can be read"):
                while True:
                    await scene.hear("a")

    asyncio.run(killed(plan(rounds=3), tmp_path, 1.0, 2.0))
    newest, older = sorted(tmp_path.glob("averages/*/clients.safetensors"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    play(behind_one())
    older.unlink()
    play(none())


def test_a_federation_with_another_plan_is_refused(tmp_path: Path) -> None:
    asyncio.run(killed(plan(rounds=3), tmp_path, 1.0))
    keeper = Keeper(tmp_path, plan(rounds=3, seed=1))
    with pytest.raises(ConfigError, match="was begun with seed 0, its file says 1 now"):
        keeper.read()
    assert plan_facts(plan(rounds=3))["clients"]["per_round"] == 3


@pytest.mark.parametrize("full", [False, True])
def test_a_federation_that_has_ended_goes_on_when_its_file_says_more_rounds(
    tmp_path: Path, full: bool
) -> None:
    async def first() -> None:
        async with led(plan(rounds=1), folder=tmp_path) as scene:
            scene.join("a", "b", "c")
            await scene.one_round(1.0)
            await scene.end()

    async def again() -> None:
        async with led(plan(rounds=1), folder=tmp_path) as scene:
            await scene.until(lambda: scene.federation.ended)

    async def more() -> None:
        async with led(plan(rounds=2), folder=tmp_path) as scene:
            scene.join("a", "b", "c")
            work = await scene.work("a")
            assert work.attempt.round == 2 and given(work) == [1.0, 1.0]
            scene.join("a", "b", "c")  # as often as they like
            await scene.one_round(3.0)
            await scene.end()
            duties = [record.duty for record in scene.federation.progress.records]
            assert duties == ["train", "evaluate", "train", "evaluate"]
            assert [record.round for record in scene.federation.progress.records] == [1, 2, 2, 3]

    async def more_on_a_full_disk() -> None:
        async with led(plan(rounds=2), Full(), tmp_path) as scene:
            scene.join("a", "b", "c")
            await scene.one_round(3.0)
            await scene.end()

    class Full(Beginning):
        def save(self, state: State, folder: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    async def evaluated() -> None:
        async with led(plan(rounds=2), folder=tmp_path) as scene:
            await scene.until(lambda: scene.federation.ended)

    model = tmp_path / "model" / "w"
    play(first())
    assert model.read_text() == "[1.0, 1.0]"
    model.write_text("touched")
    play(again())
    assert model.read_text() == "touched", "it is written once"
    if full:
        play(more_on_a_full_disk())
        assert model.read_text() == "touched", "the former one stays"
        play(evaluated())
    else:
        play(more())
    assert model.read_text() == "[3.0, 3.0]"
    facts = json.loads((tmp_path / "model" / "federation.json").read_text())
    assert facts == {"federation": "f", "rounds": 2}
    assert not list(tmp_path.glob(".*"))


def test_fewer_rounds_end_a_federation_behind_its_last_average(tmp_path: Path) -> None:
    async def fewer() -> None:
        async with led(plan(rounds=1), folder=tmp_path) as scene:
            scene.join("a", "b", "c")
            for client in "abc":
                work = await scene.work(client)
                assert (work.duty, work.attempt.round, given(work)) == ("evaluate", 3, [2.0, 2.0])
                await scene.hand_in_data(client, work, Update(weight=1, tensors={}))
            await scene.until(lambda: scene.federation.ended)
            assert scene.average == [2.0, 2.0]

    asyncio.run(killed(plan(rounds=3), tmp_path, 1.0, 2.0))
    play(fewer())


def test_a_federation_goes_on_with_fewer_clients_when_its_file_says_so(tmp_path: Path) -> None:
    async def without_c() -> None:
        known = plan(rounds=2, minimum=2, quorum=1, patience_seconds=5.0)
        assert plan_digest(known) == plan_digest(plan(rounds=2))
        assert plan_digest(known) != plan_digest(plan(rounds=3))
        async with led(known, folder=tmp_path) as scene:
            scene.join("a", "b")
            await scene.one_round(2.0, "ab")
            await scene.end("ab")
            assert scene.average == [2.0, 2.0]

    asyncio.run(killed(plan(rounds=2), tmp_path, 1.0))
    play(without_c())
