"""Many edges on one cloud: steps in total, fairness and memory, beside the cloud's bare compute.

    python -m benchmarks.scale [--quick] [--json FILE]

The cloud is `sft-cloud serve` with a real model, on one core; the edges are sessions of one process
on another that send random activations as fast as they are answered. "Bare" is the same work on
the cloud's core in a process that has no server: it and the cloud are measured in turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.driven import Driven
from benchmarks.processes import resident_bytes
from benchmarks.programs import LocalCloud, both_cores, command, on_core
from benchmarks.report import Benchmark, Figure, Found, in_turn, median_ratio, progress
from sft_cloud.builder import ModelBuilder
from sft_cloud.catalog import ModelCatalog
from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.sources import DEMO_MODEL, find_model
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession

EDGES = (1, 4, 16, 64)

QUICK_EDGES = (1, 16)

WINDOW = 10.0
"""Seconds in which steps are counted, at least, and at least one for each edge."""

LENGTHS = [8, 9, 10, 11, 12, 13, 14, 15] * 4
"""Of one batch: about SST-2's mean."""

LABELS = [0, 1] * 16


def pretrained() -> Pretrained:
    """Return the model that all sessions have."""
    return Pretrained(
        find_model(DEMO_MODEL).folder, num_labels=2, head="sequence-classification", dropout=None
    )


def spec_of(model: Pretrained, split_layer: int) -> SessionSpec:
    """Return what a session is opened with."""
    return SessionSpec(
        model=model.identity(DEMO_MODEL),
        split=SplitSpec(cut="sft", split_layer=split_layer, rank=8),
        num_labels=2,
    )


class Edges:
    """Some sessions that train side by side; use as a context.

    Args:
        address: of the cloud.
        spec: what to open them with.
        shape: of the model.
        count: how many.
    """

    def __init__(self, address: str, spec: SessionSpec, shape: ModelShape, count: int) -> None:
        access = Access(server=address, connect_seconds=60)
        self._open = partial(GrpcSession, access, spec, shape)
        self._activation_TW = torch.randn(sum(LENGTHS), spec.split.wire_width(shape))
        self._count, self._sessions = count, list[GrpcSession]()
        self.steps = [0] * count
        """Of each edge."""

    def __enter__(self) -> Edges:
        with ExitStack() as stack:
            for _ in range(self._count):
                self._sessions.append(self._open())
                stack.callback(self._sessions[-1].close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self) -> float:
        """Train for a while; returns the seconds that one step of any of them took."""
        before = sum(self.steps)
        begin, end = time.perf_counter(), time.monotonic() + max(WINDOW, self._count)
        with ThreadPoolExecutor(self._count) as pool:
            numbers = range(self._count)
            for done in [pool.submit(self._train, number, end) for number in numbers]:
                done.result()
        return (time.perf_counter() - begin) / (sum(self.steps) - before)

    def _train(self, number: int, end: float) -> None:
        session = self._sessions[number]
        while time.monotonic() < end:
            step = self.steps[number] = self.steps[number] + 1
            session.begin_step(step, self._activation_TW, LENGTHS, LABELS)
            session.end_step()
            session.apply(step, 1e-5)
        # Answered behind the last apply, so that its time counts, and here.
        session.begin_evaluation(self._activation_TW[:1], [1])
        session.end_evaluation()


def run_bare(split_layer: int) -> None:
    """Take steps without a server whenever a line comes; answers with the seconds of one."""
    torch.set_num_threads(1)
    model = pretrained()
    spec, shape = spec_of(model, split_layer), shape_of(model.config)
    build = ModelBuilder(ModelCatalog([], trust_paths=True), torch.device("cpu"))
    session, _ = build(spec).build("0" * 16, None, None)
    activation_TW = torch.randn(sum(LENGTHS), spec.split.wire_width(shape))
    steps = 0
    print("ready", flush=True)
    for _ in sys.stdin:
        begin, first = time.perf_counter(), steps
        while time.perf_counter() - begin < WINDOW:
            steps += 1
            session.step(steps, activation_TW, LENGTHS, LABELS)
            session.apply(steps, 1e-5)
        print((time.perf_counter() - begin) / (steps - first), flush=True)


@contextmanager
def bare(core: int, split_layer: int, folder: Path) -> Iterator[Callable[[], float]]:
    """Run the bare compute on a core; yields what measures the seconds of a step."""
    program = [sys.executable, "-m", "benchmarks.scale", "--bare"]
    pinned = on_core(core, [*program, "--split-layer", str(split_layer)])
    with Driven(pinned, folder / "bare.log") as process:
        yield lambda: float(process.ask("go"))


@dataclass(frozen=True, slots=True)
class At:
    """What so many edges found on a cloud of their own."""

    edges: int

    steps_a_second: float

    rate_over_bare: float

    steps: list[int]
    """Of each edge."""

    bytes_each: float
    """By how much the cloud grew for each of them."""

    def figures(self) -> Iterator[Figure]:
        """Yield them beside the goals."""
        name, goal = f"{self.edges} edges", {"at_least": 0.9} if self.edges == 16 else {}
        slowest, fastest = min(self.steps), max(self.steps)
        yield Figure(name=f"{name}: steps a second", value=self.steps_a_second)
        yield Figure(name=f"{name}: rate over bare compute", value=self.rate_over_bare, **goal)
        yield Figure(name=f"{name}: slowest over fastest", value=slowest / fastest)
        yield Figure(name=f"{name}: steps of the slowest", value=slowest)
        yield Figure(name=f"{name}: MB of the cloud for each", value=self.bytes_each / 1e6)


def measure_at(
    count: int, options: argparse.Namespace, beside: Callable[[], float], core: int
) -> At:
    """Run so many edges on a fresh cloud."""
    progress(f"{count} edges")
    model = pretrained()
    spec, shape = spec_of(model, options.split_layer), shape_of(model.config)
    serve = command("sft_cloud", "serve", "--cpu", "--max-sessions", count + 1)
    with (
        tempfile.TemporaryDirectory(prefix="sft-scale-") as place,
        LocalCloud(Path(place), on_core(core, serve)) as cloud,
    ):
        with Edges(cloud.address(), spec, shape, 1) as first:  # what is loaded once
            first.run()
        before = resident_bytes(cloud.pid)
        with Edges(cloud.address(), spec, shape, count) as edges:
            rounds = 1 if options.quick else 3
            found = in_turn({"edges": edges.run, "bare": beside}, rounds)
            grown = (resident_bytes(cloud.pid) - before) / count
    rate = median_ratio(found["bare"], found["edges"])
    return At(count, 1 / median(found["edges"]), rate, edges.steps, grown)


def measure(options: argparse.Namespace) -> Found:
    """Measure every number of edges."""
    edge, core = both_cores()
    os.sched_setaffinity(0, {edge})
    torch.set_num_threads(1)
    found: list[At] = []
    with tempfile.TemporaryDirectory(prefix="sft-bare-") as place:
        with bare(core, options.split_layer, Path(place)) as beside:
            for count in QUICK_EDGES if options.quick else EDGES:
                found.append(measure_at(count, options, beside, core))
    figures = [figure for at in found for figure in at.figures()]
    return Found(figures, {"at": [asdict(at) for at in found]})


if __name__ == "__main__":
    benchmark = Benchmark("scale", __doc__)
    benchmark.parser.add_argument("--split-layer", type=int, default=2)
    benchmark.parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    if "--bare" in sys.argv:
        run_bare(benchmark.parser.parse_args().split_layer)
    else:
        benchmark.run(measure)
