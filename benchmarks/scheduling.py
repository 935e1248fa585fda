"""Eight unlike edges on one device: how long a round takes by each rule of who comes first.

    python -m benchmarks.scheduling [--quick] [--json FILE]

Each rule has a cloud of its own, a real `sft-cloud serve` with a real model, on one core; one round
after the other is measured on each in turn. The edges are sessions of one process on the other core
that send random activations: what they compute and what their links take is slept. In a round all
take the same number of steps; it ends when the slowest is done.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.link import LINKS, Link
from benchmarks.programs import LocalCloud, both_cores, command, on_core
from benchmarks.report import Benchmark, Figure, Found, in_turn, median_ratio, progress
from benchmarks.scale import pretrained, spec_of
from sft_cloud.fairness import QUEUES
from sft_common.model.families import shape_of
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession

EDGES = 8

STEPS, ROUNDS = 15, 5

LENGTHS = [8, 9, 10, 11, 12, 13, 14, 15]
"""Of the usual batch: few, so that a round is short."""

BACKWARD = 2 / 3
"""Of what an edge computes; the rest is its forward pass."""

EDGE_LINKS = [LINKS[number] for number in (1, 1, 1, 2, 2, 3, 3, 4)]
"""Of the edges, fastest first."""

RIVAL = "longest-first"


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


class Edge:
    """One emulated edge.

    Args:
        open_session: opens its session.
        width: W of its activations.
    """

    def __init__(self, open_session: Callable[[], GrpcSession], width: int) -> None:
        self.session, self._width, self._step = open_session(), width, 0

    def run(self, steps: int, become: Callable[[int], Way]) -> float:
        """Take steps; returns when it was done."""
        way = become(4 * self._width)
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


class Cloud:
    """The edges of one cloud.

    Args:
        address: of the cloud.
        stack: closes their sessions.
        split_layer: below which the edges' half ends.
    """

    def __init__(self, address: str, stack: ExitStack, split_layer: int) -> None:
        model = pretrained()
        spec, shape = spec_of(model, split_layer), shape_of(model.config)
        access = Access(server=address, connect_seconds=60)
        open_session = partial(GrpcSession, access, spec, shape)
        width = spec.split.wire_width(shape)
        self._edges = [Edge(open_session, width) for _ in range(EDGES)]
        for edge in self._edges:
            stack.callback(edge.session.close, discard=True)
        self.done = list[list[float]]()
        """When each edge was done in each round, from its begin."""

    def alone(self, steps: int) -> float:
        """Return the seconds that the device takes for a usual step of one edge."""
        idle = Way(lengths=LENGTHS, forward=0, backward=0, transfer=0, delay=0)
        begin = time.perf_counter()
        return (self._edges[0].run(steps, lambda _: idle) - begin) / steps

    def round(self, setting: Setting, device: float, steps: int) -> float:
        """Have all edges take so many steps; returns the seconds until the last is done."""
        begin = time.perf_counter()
        with ThreadPoolExecutor(EDGES) as pool:
            running = [
                pool.submit(edge.run, steps, partial(way_of, setting, number, device))
                for number, edge in enumerate(self._edges)
            ]
            self.done.append([each.result() - begin for each in running])
        return max(self.done[-1])


def measure_setting(
    name: str, clouds: Mapping[str, Cloud], device: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Return what rounds of a setting took by each rule."""
    setting, rounds = SETTINGS[name], 2 if options.quick else options.rounds
    steps = 8 if options.quick else options.steps
    for cloud in clouds.values():
        cloud.done.clear()
    took = in_turn(
        {rule: partial(cloud.round, setting, device, steps) for rule, cloud in clouds.items()},
        rounds,
    )
    progress(f"{name}: " + ", ".join(f"{rule} {median(took[rule]):.2f} s" for rule in took))
    return {
        "name": name,
        "setting": asdict(setting),
        "steps": steps,
        "device_seconds_a_step": device,
        "round_seconds": took,
        "done_seconds": {rule: cloud.done[-rounds:] for rule, cloud in clouds.items()},
    }


def figures_of(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the figures of a setting: rounds, what an edge waits for its own end, and ratios."""
    took, name = found["round_seconds"], found["name"]
    for rule, seconds in took.items():
        yield Figure(name=f"{name}: seconds of a round, {rule}", value=median(seconds))
    for rule, done in found["done_seconds"].items():
        ends = median(mean(each) for each in done)
        yield Figure(name=f"{name}: seconds to an edge's end in the mean, {rule}", value=ends)
    for rule in (rule for rule in took if rule != RIVAL):
        ratios = [a / b for a, b in zip(took[rule], took[RIVAL], strict=True)]
        over = f"{name}: {rule} over {RIVAL}"
        yield Figure(name=over, value=median_ratio(took[rule], took[RIVAL]))
        yield Figure(name=f"{over}, least", value=min(ratios))
        yield Figure(name=f"{over}, most", value=max(ratios))


def measure(options: argparse.Namespace) -> Found:
    """Measure every setting by every rule."""
    edge, core = both_cores()
    os.sched_setaffinity(0, {edge})
    torch.set_num_threads(1)
    with ExitStack() as stack:
        clouds = dict[str, Cloud]()
        for rule in QUEUES:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sft-rule-")))
            more = ("--scheduling", rule, "--no-save", "--grace", 1)
            serve = on_core(core, command("sft_cloud", "serve", "--cpu", *more))
            cloud = stack.enter_context(LocalCloud(place, serve))
            clouds[rule] = Cloud(cloud.address(), stack, options.split_layer)
        device = median(cloud.alone(20) for cloud in clouds.values())
        progress(f"the device takes {1e3 * device:.1f} ms for a step")
        found = [measure_setting(name, clouds, device, options) for name in SETTINGS]
    figures = [figure for each in found for figure in figures_of(each)]
    return Found(figures, {"settings": found})


if __name__ == "__main__":
    benchmark = Benchmark("scheduling", __doc__)
    benchmark.parser.add_argument("--split-layer", type=int, default=5)
    benchmark.parser.add_argument("--steps", type=int, default=STEPS, help="of a round")
    benchmark.parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each rule")
    benchmark.run(measure)
