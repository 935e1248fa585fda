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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.programs import LocalCloud, both_cores, command, on_core
from benchmarks.report import Benchmark, Figure, Found, in_turn, median_ratio, progress
from benchmarks.scale import pretrained, spec_of
from benchmarks.scheduling_edges import EDGES, LENGTHS, SETTINGS, Edge, Setting, Way, way_of
from sft_cloud.fairness import QUEUES
from sft_common.model.families import shape_of
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession

STEPS, ROUNDS = 15, 5

RIVAL = "longest-first"


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
        return (self._edges[0].run(steps, idle) - begin) / steps

    def round(self, setting: Setting, device: float, steps: int) -> float:
        """Have all edges take so many steps; returns the seconds until the last is done."""
        begin = time.perf_counter()
        with ThreadPoolExecutor(EDGES) as pool:
            running = [
                pool.submit(edge.run, steps, way_of(setting, number, device, edge.token_bytes))
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
