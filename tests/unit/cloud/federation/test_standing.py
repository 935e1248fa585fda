"""What the owner sees of a federation while it goes on: status, table, metrics, log."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, cast

import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sft_cloud.exposition import CloudCollector
from sft_cloud.federation.course import MAX_TRIES
from sft_cloud.federation.record import Measured
from sft_cloud.federation.registry import Federations
from sft_cloud.federation.round import OUTCOMES
from sft_cloud.federation.standing import PHASES, Standing, UnderWay, standing_of
from sft_cloud.federation.summary import federation_summaries
from sft_cloud.federation.table import failures, federations_table
from sft_cloud.host import Host, Limits
from sft_cloud.status import facts_of, plain
from sft_common.errors import TrainingError
from sft_common.federation.said import Finding, Over
from sft_common.pb.sft.v1 import operations_pb2 as pb
from tests.unit.cloud.federation.scene import Beginning, Scene, led, plan, play

FOUND = Finding(examples=4, metric="accuracy", value=0.75, loss=0.5)


def standing(scene: Scene) -> Standing:
    return standing_of(scene.federation)


def test_it_says_where_it_is_from_waiting_to_the_end() -> None:
    async def story() -> None:
        async with led(plan(rounds=2), Beginning("calibrate-cut")) as scene:
            scene.join("a", "b")
            await scene.until(lambda: scene.federation.waits)
            now = standing(scene)
            assert (now.phase, now.under_way, now.present, now.done) == ("waiting", None, 2, 0)
            scene.join("c")
            for client in "abc":
                work = await scene.work(client)
                assert standing(scene).phase == "calibrating"
                await scene.hand_in(client, work, 1.0, name="mean")
            works = await scene.works()
            await scene.hand_in("a", works["a"], 1.0)
            scene.federation.give_up("b", "", 1, works["b"].attempt, "no room")
            now = standing(scene)
            assert now.phase == "training" and now.under_way is not None
            assert now.under_way == UnderWay(
                round=1, number=1, drawn=3, arrived=1, lost=1, seconds=now.under_way.seconds
            )
            await scene.hand_in("c", works["c"], 1.0)
            assert isinstance(await scene.hear("b"), Over)
            await scene.one_round(1.0, finding=FOUND)
            work = await scene.work("a")
            now = standing(scene)
            assert (now.phase, now.done) == ("evaluating", 2)
            assert now.measured == Measured(1, "accuracy", 0.75, 0.5), "of the round before"
            for client in "abc":
                scene.federation.give_up(client, "", 1, work.attempt, "it does not want to")
            await scene.until(lambda: scene.federation.ended)
            now = standing(scene)
            assert (now.phase, now.under_way, now.known) == ("ended", None, 3)
            assert now.rounds == {"counted": 3}, "a calibration and two rounds"
            assert now.updates == {"taken": 8, "gave_up": 1}

    play(story())


def test_every_client_that_was_drawn_has_one_outcome() -> None:
    async def story() -> None:
        known = plan(rounds=1, per_round=5, minimum=5, quorum=1, round_seconds=1.0,
                     patience_seconds=0.1)  # fmt: skip
        async with led(known) as scene:
            scene.join(*"abcde")
            works = {client: await scene.work(client) for client in "abcde"}
            await scene.hand_in("a", works["a"], 1.0)
            with pytest.raises(TrainingError):
                await scene.hand_in("b", works["b"], float("nan"))
            scene.federation.give_up("c", "", 1, works["c"].attempt, "nothing came in time")
            scene.federation.leave(scene.seats["d"])
            await scene.until(lambda: standing(scene).done == 1)
            assert standing(scene).updates == dict.fromkeys(OUTCOMES, 1)
            assert scene.federation.progress.records[0].absent == ["d", "e"]

    play(story())


def test_tries_at_a_round_are_counted_and_a_failure_is_told() -> None:
    async def story() -> None:
        async with led(plan(rounds=1, per_round=1, minimum=1, quorum=1)) as scene:
            scene.join("a")
            for number in range(1, MAX_TRIES + 1):
                work = await scene.work("a")
                at = standing(scene).under_way
                assert at is not None and at.number == number
                scene.federation.give_up("a", "", 1, work.attempt, "the loss is nan")
                assert isinstance(await scene.hear("a"), Over)
            await scene.until(lambda: scene.federation.failure is not None)
            now = standing(scene)
            assert now.phase == "failed" and "a: the loss is nan" in now.failure
            assert now.under_way is None and now.rounds == {"came_to_nothing": MAX_TRIES}
            [summary] = federation_summaries(Federations([scene.federation]))
            assert facts_of(summary)["state"] == "failed"
            [line] = failures([summary])
            assert line.plain.startswith("f has failed: round 1 came to nothing 20 times; last: a:")

    play(story())


def scraped(scene: Scene) -> dict[tuple[str, ...], float]:
    host = Host(builder=cast(Any, None), scheduler=scene.scheduler, limits=Limits())
    registry = CollectorRegistry()
    registry.register(CloudCollector(host, torch.device("cpu"), [scene.federation]))
    text = generate_latest(registry).decode()
    assert "client-" not in text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("sft_federation")
    }


def test_metrics_have_the_federations_name_and_no_clients() -> None:
    async def story() -> None:
        async with led(plan(rounds=2, minimum=3)) as scene:
            before = scraped(scene)
            assert before["sft_federation_round", "f"] == 0
            assert before["sft_federation_rounds_planned", "f"] == 2
            assert ("sft_federation_metric", "f") not in before
            for outcome in OUTCOMES:
                assert before["sft_federation_updates_total", "f", outcome] == 0
            names = [f"client-{n}" for n in range(3)]
            scene.join(*names)
            for _ in range(2):
                works = {client: await scene.work(client) for client in names}
                for client in names[:2]:
                    await scene.hand_in(client, works[client], 1.0, finding=FOUND)
                assert scraped(scene)["sft_federation_clients", "f", "arrived"] == 2
                await scene.hand_in(names[2], works[names[2]], 1.0)
            await scene.work(names[0])
            scene.federation.traffic.received += 5
            after = scraped(scene)
            assert after["sft_federations", "evaluating"] == 1
            assert sum(after["sft_federations", phase] for phase in PHASES) == 1
            assert after["sft_federation_round", "f"] == 2
            assert after["sft_federation_metric", "f"] == 0.75
            assert after["sft_federation_loss", "f"] == 0.5
            assert after["sft_federation_clients", "f", "present"] == 3
            assert after["sft_federation_rounds_total", "f", "counted"] == 2
            assert after["sft_federation_updates_total", "f", "taken"] == 6
            assert after["sft_federation_received_bytes_total", "f"] == 5

    play(story())


def summary(**changes: Any) -> pb.FederationSummary:
    known = {
        "name": "hospitals",
        "method": "splitfed-shared",
        "state": pb.FEDERATION_STATE_TRAINING,
        "rounds_done": 12,
        "rounds_planned": 50,
        "clients_present": 9,
        "clients_known": 12,
        "clients_needed": 5,
        "under_way": pb.RoundUnderWay(
            round=13, try_number=2, drawn=5, arrived=3, lost=1, seconds=74
        ),
        "measured": pb.AverageMeasured(round=12, metric="accuracy", value=0.9123, loss=0.23451),
        "received_bytes": 120_100_000,
        "sent_bytes": 98_000_000,
    }
    return pb.FederationSummary(**{**known, **changes})


def test_the_table_fits_into_a_hundred_columns() -> None:
    waiting = summary(state=pb.FEDERATION_STATE_WAITING, under_way=None, measured=None)
    shown = plain(federations_table([summary(), waiting]), 100).splitlines()
    assert len(shown) == 2 + 2 * 2, shown
    first, second, *waits = shown[2:]
    for part in ("hospitals", "training", "12 of 50", "3 of 5, 1 lost", "9 here", "91.23 %"):
        assert part in first, part
    for part in ("splitfed-shared", "try 2", "1.2 min", "12 known", "0.2345, of round 12", "98.0"):
        assert part in second, part
    assert "waiting" in waits[0] and "needs 5" in waits[1]


def test_names_of_peers_stay_in_their_cells() -> None:
    hostile = "[bold]x\x1b[2J\r\nfake"
    told = summary(
        name=hostile, measured=pb.AverageMeasured(metric=hostile), failure=f"{hostile} {hostile}"
    )
    shown = plain(federations_table([told]), 200)
    assert all(line.isprintable() for line in shown.splitlines()) and "\\x1b[2J\\r\\nfake" in shown
    [line] = failures([told])
    assert line.plain.isprintable()


def test_facts_have_what_is_absent_as_none() -> None:
    facts = facts_of(summary(under_way=None))
    assert facts["under_way"] is None and facts["measured"]["round"] == 12
    assert facts["state"] == "training"


def test_the_log_says_once_per_change_who_is_missing_and_a_line_for_each_round(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        async with led(plan(rounds=2)) as scene:
            scene.join("a")
            scene.join("a")  # the same client's new stream is no change
            scene.join("b")
            await scene.until(lambda: "2 of at least 3 are there" in caplog.text)
            scene.join("c")
            for _ in range(2):
                await scene.one_round(1.0, finding=FOUND)
            await scene.end()

    with caplog.at_level(logging.INFO):
        play(story())
    said = [record.getMessage() for record in caplog.records]
    waits = Counter(line for line in said if "waits for clients" in line)
    assert max(waits.values()) == 1
    assert "federation f waits for clients: 2 of at least 3 are there" in waits
    rounds = [line for line in said if ": round " in line]
    assert rounds[0].startswith("federation f: round 1 of 2, 3 of 3 clients, 3 examples")
    assert "accuracy 75.00 %, loss 0.5000 of round 1's average" in rounds[1]
    assert said[-1].startswith("federation f has ended behind round 2 of 2; accuracy")
