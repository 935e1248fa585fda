"""Sessions that are silent for longer than the balancer between edge and cloud keeps connections.

All of them wait side by side, on one cloud: a cloud to which pings are too many says so with the
fourth, and takes one every 5 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from sft_common.config import SessionSpec, SplitSpec
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession
from sft_edge.retrying import Retry
from tests.idle_relay import Connection, idle_relay
from tests.processes import running_cloud

NEVER = 1000.0
"""Seconds after which no test here still runs."""


@dataclass(kw_only=True)
class Case:
    """A balancer and an edge; all in seconds."""

    limit: float
    """After which the balancer forgets."""

    idle: float
    """Of the edge, between its first step and its second."""

    resets: bool = False
    """Whether the balancer answers what comes too late by a reset."""

    ping: float = NEVER
    """The edge's --keepalive. Its --keepalive-timeout is 1, so that an answer may take 3."""

    reply: float = NEVER
    """The edge's --reply-timeout."""


@dataclass
class Outcome:
    """What came of it."""

    losses: list[float]
    """Of three steps."""

    steps: int
    """That the cloud has applied."""

    noticed: bool
    """Whether the edge knew of a lost connection before it asked for the second step."""

    seconds: float
    """That the second step took."""

    said: list[str]
    """To the person at the edge."""

    connections: list[Connection]


CASES = {
    "undisturbed": Case(limit=NEVER, idle=0),
    "the edge pings": Case(limit=10, idle=27, ping=6),
    "the cloud pings": Case(limit=19, idle=27),  # its --keepalive is 15
    "pinged too late": Case(limit=3, idle=18, ping=8),
    "asked before the ping": Case(limit=3, idle=5, ping=8),
    "no answer": Case(limit=3, idle=5, reply=10),
    "reset": Case(limit=3, idle=5, resets=True),
}

Opener = Callable[..., GrpcSession]


@pytest.fixture(scope="module")
def outcomes(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    pretrained = Pretrained(tiny_model, num_labels=2)
    identity = pretrained.identity(str(tiny_model))
    spec = SessionSpec(model=identity, split=SplitSpec(split_layer=2, rank=4), num_labels=2)
    retry = Retry(for_seconds=60, most_seconds=1)
    opener = partial(GrpcSession, spec=spec, shape=shape_of(pretrained.config), retry=retry)
    arguments = ("--keepalive", 15, "--keepalive-timeout", 2, "--max-sessions", len(CASES))
    place = tmp_path_factory.mktemp("idle")
    with running_cloud(place, *arguments) as cloud, ThreadPoolExecutor(len(CASES)) as pool:
        yield {name: pool.submit(trained, opener, cloud.port, case) for name, case in CASES.items()}


def trained(opener: Opener, port: int, case: Case) -> Outcome:
    """Take a step, be idle, take two more."""
    with idle_relay(port, case.limit, resets=case.resets) as relay:
        access = Access(
            server=relay.server,
            connect_seconds=60,
            reply_seconds=case.reply,
            ping_seconds=case.ping,
            ping_answer_seconds=1,
        )
        session, said = opener(access), list[str]()
        session.stream.say = said.append
        losses = [stepped(session, 1)]
        time.sleep(case.idle)
        noticed, begin = session.answered(), time.monotonic()
        losses.append(stepped(session, 2))
        seconds = time.monotonic() - begin
        losses.append(stepped(session, 3))
        steps = session.close().steps
    return Outcome(losses, steps, noticed, seconds, said, relay.connections)


def stepped(session: GrpcSession, step: int) -> float:
    session.begin_step(step, torch.ones(3, 4), [2, 1], [0, 1])
    loss, _ = session.end_step()
    session.apply(step, 1e-2)
    return loss


@pytest.mark.parametrize("name", ["the edge pings", "the cloud pings"])
def test_pings_of_either_side_keep_a_silent_connection(
    outcomes: dict[str, Future[Outcome]], name: str
) -> None:
    outcome, twin = outcomes[name].result(), outcomes["undisturbed"].result()
    assert (outcome.losses, outcome.steps) == (twin.losses, 3)
    assert [connection.forgotten for connection in outcome.connections] == [False], outcome
    assert not outcome.noticed and not outcome.said


@pytest.mark.parametrize("name", ["pinged too late", "asked before the ping", "no answer", "reset"])
def test_a_forgotten_connection_is_noticed_and_costs_no_step(
    outcomes: dict[str, Future[Outcome]], name: str
) -> None:
    outcome, twin = outcomes[name].result(), outcomes["undisturbed"].result()
    assert (outcome.losses, outcome.steps) == (twin.losses, 3)
    assert [connection.forgotten for connection in outcome.connections] == [True, False], outcome
    assert outcome.noticed == (name == "pinged too late")
    assert outcome.seconds < 45  # gRPC would wait for its answer for a minute
    lost, back = outcome.said
    assert "trying again" in lost and back == "the cloud is back: going on at step 2"
