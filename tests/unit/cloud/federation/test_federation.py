"""A federation from its first client to its last average, with clients in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sft_cloud.federation.course import MAX_TRIES
from sft_cloud.federation.round import draw
from sft_common.errors import (
    ForbiddenError,
    ProtocolError,
    RetryLaterError,
    SnapshotError,
    TrainingError,
)
from sft_common.federation.said import Attempt, Ended, Over, Waiting, Work
from sft_common.federation.tensors import tensors_from_bytes
from tests.unit.cloud.federation.scene import (
    SHAPES,
    SHARED,
    Beginning,
    given,
    led,
    plan,
    play,
)


def test_rounds_are_averaged_by_examples_and_all_are_let_go() -> None:
    async def story() -> None:
        async with led(plan()) as scene:
            scene.join("a", "b")
            waiting = await scene.seats["b"].hear()
            assert waiting == Waiting(1, 2, 3)
            scene.join("c")
            for number, expected in ((1, [0.0, 0.0]), (2, [3.5, 3.5])):
                works = await scene.works()
                for work in works.values():
                    assert work.attempt.round == number and given(work) == expected
                    assert work.evaluate == (number > 1)
                await scene.hand_in("c", works["c"], 5.0, weight=5)
                await scene.hand_in("a", works["a"], 1.0, weight=2)
                await scene.hand_in("b", works["b"], 1.0, weight=1)
            for client in "abc":
                await scene.evaluated(client)
            for client in "abc":
                assert await scene.hear(client) == Ended(b""), "it has just had the average"
                assert await scene.seats[client].hear() is None
            assert scene.average == [3.5, 3.5]
            scene.join("late")
            end = await scene.hear("late")
            assert isinstance(end, Ended)
            assert tensors_from_bytes(end.data, SHAPES, "end")["w"].tolist() == [3.5, 3.5]

    play(story())


def test_only_some_are_drawn_and_the_others_wait() -> None:
    async def story() -> None:
        known = plan(per_round=2, minimum=2, quorum=2, rounds=1)
        async with led(known) as scene:
            scene.federation.members.sit("z", "", 1)
            scene.join("a", "b", "c", "d")
            await scene.until(lambda: scene.federation.round is not None)
            tried = scene.federation.round
            assert tried is not None and len(tried.drawn) == 2
            there = scene.federation.members.present
            assert list(tried.drawn) == draw(there, 2, seed=0, attempt=tried.attempt)

    play(story())


def test_more_may_have_to_be_there_than_are_drawn() -> None:
    async def story() -> None:
        async with led(plan(per_round=1, minimum=3, quorum=1, rounds=1)) as scene:
            scene.join("a", "b")
            assert await scene.seats["b"].hear() == Waiting(1, 2, 3)
            assert scene.federation.round is None
            scene.join("c")
            assert len((await scene.tried(1)).drawn) == 1

    play(story())


def test_a_round_ends_at_its_deadline_with_what_came_and_late_ones_are_refused() -> None:
    async def story() -> None:
        async with led(plan(round_seconds=1.0, rounds=1)) as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            await scene.hand_in("a", works["a"], 2.0)
            await scene.hand_in("b", works["b"], 4.0)
            over = await scene.hear("c")
            assert over == Over(works["c"].attempt, "nothing came in time")
            with pytest.raises(ForbiddenError, match="round 1, try 1 is over"):
                await scene.hand_in("c", works["c"], 900.0)
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.average == [3.0, 3.0], "not mixed in"
            record = scene.federation.progress.records[0]
            assert record.arrived == ["a", "b"]
            assert record.refused == {"c": "nothing came in time"}

    play(story())


def test_an_update_that_is_no_number_is_refused_and_the_others_count() -> None:
    async def story() -> None:
        async with led(plan(rounds=1)) as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            with pytest.raises(TrainingError, match="update of client a: tensor 'w' holds numbers"):
                await scene.hand_in("a", works["a"], float("nan"))
            await scene.hand_in("b", works["b"], 2.0)
            await scene.hand_in("c", works["c"], 4.0)
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.average == [3.0, 3.0]
            assert "not finite" in scene.federation.progress.records[0].refused["a"]

    play(story())


def test_other_tensors_are_refused_and_the_client_may_try_again() -> None:
    async def story() -> None:
        async with led(plan(rounds=1)) as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            with pytest.raises(ProtocolError, match="tensor 'v' does not belong there"):
                await scene.hand_in("a", works["a"], 1.0, name="v")
            await scene.hand_in("a", works["a"], 1.0)
            await scene.hand_in("a", works["a"], 99.0)  # the answer was lost on the way
            await scene.hand_in("b", works["b"], 1.0)
            await scene.hand_in("c", works["c"], 4.0)
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.average == [2.0, 2.0], "what came first counts, once"

    play(story())


def test_a_client_that_vanishes_is_gone_after_its_patience() -> None:
    async def story() -> None:
        async with led(plan(patience_seconds=0.2, rounds=1)) as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            scene.federation.leave(scene.seats["c"])
            await scene.hand_in("a", works["a"], 2.0)
            await scene.hand_in("b", works["b"], 4.0)
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.federation.progress.records[0].refused == {"c": "the client has gone"}

    play(story())


def test_a_connection_that_breaks_costs_nothing() -> None:
    async def story() -> None:
        async with led(plan(patience_seconds=30, rounds=1)) as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            scene.federation.leave(scene.seats["c"])
            scene.join("c", at=works["c"].attempt)  # it works on, and needs not be told again
            for client in "abc":
                await scene.hand_in(client, works[client], 6.0)
            await scene.evaluated("c")
            scene.federation.leave(scene.seats["b"])
            scene.join("b")  # another program, which knows nothing
            await scene.evaluated("b")
            assert scene.average == [6.0, 6.0]

    play(story())


def test_who_works_on_something_over_hears_so_when_it_comes_back() -> None:
    async def story() -> None:
        async with led(plan(rounds=1)) as scene:
            old = Attempt(1, 1, 12345)
            scene.join("a", at=old)
            assert await scene.hear("a") == Over(old, "the cloud has gone on, or was started again")

    play(story())


def test_without_a_quorum_the_round_is_tried_again_from_the_same_average() -> None:
    async def story() -> None:
        async with led(plan(rounds=1, quorum=3)) as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            await scene.hand_in("a", works["a"], 7.0)
            scene.federation.give_up("b", "", 1, works["b"].attempt, "out of memory")
            await scene.hand_in("c", works["c"], 7.0)
            assert await scene.hear("b") == Over(works["b"].attempt, "out of memory")
            again = {client: await scene.work(client) for client in "abc"}
            for client, work in again.items():
                assert work.attempt == works["a"].attempt._replace(number=2)
                assert given(work) == [0.0, 0.0]
                await scene.hand_in(client, work, 1.0)
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.average == [1.0, 1.0]
            assert [record.counts for record in scene.federation.progress.records[:2]] == [
                False,
                True,
            ]

    play(story())


def test_a_round_that_never_counts_ends_the_federation_with_the_reason() -> None:
    async def story() -> None:
        async with led(plan(rounds=1, per_round=1, minimum=1, quorum=1)) as scene:
            scene.join("a")
            for _ in range(MAX_TRIES):
                said = await scene.hear("a")
                while isinstance(said, Over):
                    said = await scene.hear("a")
                assert isinstance(said, Work)
                scene.federation.give_up("a", "", 1, said.attempt, "the loss is nan")
            with pytest.raises(
                TrainingError, match="came to nothing 20 times; last: .*loss is nan"
            ):
                while True:
                    await scene.hear("a")
            with pytest.raises(TrainingError, match="came to nothing"):
                scene.join("b")

    play(story())


def test_clients_take_turns_with_one_net2_and_a_lost_turn_leaves_no_trace() -> None:
    async def story() -> None:
        known = plan(**SHARED, rounds=1, round_seconds=1.0)
        async with led(known, Beginning(cloud=True)) as scene:
            scene.join("a", "b", "c")
            await scene.until(lambda: scene.federation.round is not None)
            tried = scene.federation.round
            assert tried is not None
            first, second, third = tried.drawn
            for client, net2 in ((first, 0.0), (second, 10.0), (third, 10.0)):
                work = await scene.work(client)
                begun = scene.federation.net2_for(client, "", 1, work.attempt)["n"].item()
                assert begun == net2, client
                if client == second:
                    assert isinstance(await scene.hear(client), Over)
                    continue
                scene.nets[client] = {"n": torch.tensor([begun + 10.0])}
                await scene.hand_in(
                    client, work, 2.0 if client == first else 4.0, session_id=client
                )
                with pytest.raises(ForbiddenError, match="handed in|is over"):
                    scene.federation.net2_for(client, "", 1, work.attempt)
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.average == [3.0, 3.0]
            assert scene.federation.progress.state.cloud["n"].item() == 20.0

    play(story())


def test_net2_of_each_client_is_averaged_by_its_examples() -> None:
    async def story() -> None:
        known = plan(**{**SHARED, "method": "splitfed"}, rounds=1)
        async with led(known, Beginning(cloud=True)) as scene:
            scene.join("a", "b", "c")
            for client, weight, value in (("a", 1, 4.0), ("b", 2, 1.0), ("c", 1, 2.0)):
                work = await scene.work(client)
                scene.nets[client] = {"n": torch.tensor([value]), "shared table": torch.ones(3)}
                await scene.hand_in(client, work, value, weight=weight, session_id=client)
            await scene.until(lambda: scene.federation.progress.done == 1)
            assert scene.average == [2.0, 2.0]
            assert scene.federation.progress.state.cloud == {"n": torch.tensor([2.0])}

    play(story())


def test_a_calibration_comes_first_and_once() -> None:
    async def story() -> None:
        async with led(plan(rounds=1), Beginning("calibrate-cut")) as scene:
            scene.join("a", "b", "c")
            for client in "abc":
                work = await scene.work(client)
                assert work.duty == "calibrate-cut" and work.attempt.round == 0
                await scene.hand_in(client, work, 1.0, weight=5, name="mean")
            work = await scene.work("a")
            assert work.duty == "train" and given(work) == [15.0, 15.0]

    play(story())


def test_a_calibration_does_not_change_whom_rounds_draw() -> None:
    async def drawn(*calibrations: str) -> list[tuple[str, ...]]:
        known = plan(per_round=2, minimum=2, quorum=2, rounds=3, evaluate_every=0)
        found = []
        async with led(known, Beginning(*calibrations)) as scene:
            scene.join("a", "b", "c", "d")
            for number in range(1, 4 + len(calibrations)):
                tried = await scene.tried(number)
                for client in tried.drawn:
                    name = "w" if tried.duty == "train" else "mean"
                    await scene.hand_in(client, await scene.work(client), 1.0, weight=5, name=name)
                found += [tried.drawn] * (tried.duty == "train")
        return found

    async def story() -> None:
        assert await drawn() == await drawn("calibrate-cut")

    play(story())


@pytest.mark.parametrize(("every", "looked"), [(0, []), (1, [2, 3, 4, 5]), (2, [3, 5]), (9, [])])
def test_averages_are_looked_at_every_so_many_rounds(every: int, looked: list[int]) -> None:
    async def story() -> None:
        known = plan(rounds=5, evaluate_every=every, per_round=1, minimum=1, quorum=1)
        async with led(known) as scene:
            scene.join("a")
            found = []
            for number in range(1, 6):
                work = await scene.work("a")
                found += [number] * work.evaluate
                await scene.hand_in("a", work, 1.0)
            assert found == looked
            await scene.evaluated("a")

    play(story())


def test_a_disk_that_takes_nothing_ends_it_with_the_reason(tmp_path: Path) -> None:
    async def story() -> None:
        async with led(plan(rounds=3), folder=tmp_path / "f") as scene:
            scene.join("a", "b", "c")
            works = await scene.works()
            (tmp_path / "f").mkdir()
            (tmp_path / "f" / "averages").write_text("no folder")
            for client, work in works.items():
                await scene.hand_in(client, work, 1.0)
            with pytest.raises(SnapshotError, match="cannot write the snapshot"):
                while True:
                    await scene.hear("a")

    play(story())


def test_a_cloud_that_stops_says_so() -> None:
    async def story() -> None:
        async with led(plan()) as scene:
            scene.join("a")
            scene.federation.stop()
            with pytest.raises(RetryLaterError, match="is stopping; of this federation nothing"):
                while True:
                    await scene.hear("a")

    play(story())
