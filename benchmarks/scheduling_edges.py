"""The emulated edges of scheduling.py: what they take, and their sessions.

What an edge computes and what its link takes is slept; what it sends is random, and really sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.link import LINKS, Link
from sft_edge.client import GrpcSession

EDGES = 8

LENGTHS = [8, 9, 10, 11, 12, 13, 14, 15]
"""Of the usual batch: few, so that a round is short."""

BACKWARD = 2 / 3
"""Of what an edge computes; the rest is its forward pass."""

EDGE_LINKS = [LINKS[number] for number in (1, 1, 1, 2, 2, 3, 3, 4)]
"""Of the edges, fastest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What the edges of a round are like, fastest first."""

    owns: Sequence[float]
    """What each takes by itself for a step, over the device's time of a usual step."""

    batches: Sequence[float] = (1.0,) * EDGES
    """Of each, over the usual batch."""

    links: Sequence[Link] = tuple(EDGE_LINKS)

    labels: str = "cloud"
    """Where they are."""


def spread(least: float, most: float) -> list[float]:
    """Return as many numbers as edges, each the same factor above the one before."""
    return [least * (most / least) ** (number / (EDGES - 1)) for number in range(EDGES)]


SETTINGS = {
    "own times 1 to 8": Setting(owns=spread(1, 8)),
    "one slow edge": Setting(owns=[1.0] * (EDGES - 1) + [8.0], links=[LINKS[1]] * 7 + [LINKS[4]]),
    "slow edges, large batches": Setting(owns=spread(1, 8), batches=spread(0.5, 2)),
    "nearly alike": Setting(owns=spread(7.2, 8.8), links=[LINKS[2]] * EDGES),
    "labels on the edges": Setting(owns=spread(1.5, 8), labels="edge"),
}
"""All contended: the device's times add up to about the slowest edge's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How an edge takes a step, in seconds."""

    lengths: list[int]

    forward: float

    backward: float

    transfer: float
    """Of an activation, or its gradient."""

    delay: float
    """Of anything else."""

    labels: str = "cloud"


class Edge:
    """One emulated edge.

    Args:
        open_session: opens its session.
        width: W of its activations.
    """

    def __init__(self, open_session: Callable[[], GrpcSession], width: int) -> None:
        self.session, self._width, self._step = open_session(), width, 0
        self.token_bytes = 4 * width
        """That travel for a token each way."""

    def run(self, steps: int, way: Way) -> float:
        """Take steps; returns when it was done."""
        activation_TW = torch.randn(sum(way.lengths), self._width)
        exchange = self._in_two if way.labels == "edge" else self._in_one
        for _ in range(steps):
            self._step += 1
            time.sleep(way.forward + way.transfer)
            exchange(way, activation_TW)
            time.sleep(way.transfer + way.backward)
        return time.perf_counter()

    def _in_one(self, way: Way, activation_TW: torch.Tensor) -> None:
        labels = [0, 1] * (len(way.lengths) // 2)
        self.session.begin_step(self._step, activation_TW, way.lengths, labels)
        self.session.end_step()
        self.session.apply(self._step, 1e-5)

    def _in_two(self, way: Way, activation_TW: torch.Tensor) -> None:
        self.session.begin_forward(self._step, activation_TW, way.lengths)
        logits = self.session.end_forward()
        time.sleep(2 * way.delay)  # what travels is small, the loss is nothing
        self.session.begin_backward(
            self._step,
            torch.full_like(logits, 1e-3),
            forward=0,
            exchange=1,
            tokens=len(activation_TW),
        )
        self.session.end_backward()
        self.session.apply(self._step, 1e-5, exchanges=2)


def way_of(setting: Setting, number: int, device: float, token_bytes: int) -> Way:
    """Return how one edge of a setting takes a step.

    Args:
        setting: of all edges.
        number: of the edge.
        device: seconds of the cloud's device for a usual step.
        token_bytes: that travel for a token each way.
    """
    examples = max(1, round(len(LENGTHS) / 2 * setting.batches[number])) * 2
    lengths = (LENGTHS * 2)[:examples]
    link = setting.links[number]
    delay = link.round_trip_ms / 2e3
    transfer = delay + sum(lengths) * token_bytes * 8 / (link.mbit * 1e6)
    travels = 2 * transfer + (2 * delay if setting.labels == "edge" else 0)
    computes = max(0.0, setting.owns[number] * device - travels)
    return Way(
        lengths=lengths,
        forward=(1 - BACKWARD) * computes,
        backward=BACKWARD * computes,
        transfer=transfer,
        delay=delay,
        labels=setting.labels,
    )
