"""Many edges on one cloud: steps in total, fairness and memory, beside the cloud's bare compute.

    python -m benchmarks.scale [--quick] [--json FILE]

The cloud is `sft-cloud serve` with a real model, on one core; the edges are sessions of one process
on another that send random activations as fast as they are answered. "Bare" is the same work on
the cloud's core in a process that has no server: it and the cloud are measured in turn.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from benchmarks.processes import resident_bytes
from benchmarks.programs import LocalCloud, command
from benchmarks.report import Figure, benchmark_parser, in_turn, median_ratio, show
from sft_cloud.builder import ModelBuilder
from sft_cloud.catalog import ModelCatalog
from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.sources import DEMO_MODEL, find_model
from sft_edge.client import GrpcSession

EDGES = (1, 4, 16, 64)

WINDOW = 8.0
"""Seconds in which steps are counted."""

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
    """Some sessions that train side by side.

    Args:
        address: of the cloud.
        spec: what to open them with.
        shape: of the model.
        count: how many.
    """

    def __init__(self, address: str, spec: SessionSpec, shape: ModelShape, count: int) -> None:
        self._activation_TW = torch.randn(sum(LENGTHS), spec.split.wire_width(shape))
        self._sessions = [
            GrpcSession(address, spec, shape, connect_seconds=60) for _ in range(count)
        ]
        self._steps = [0] * count
        self.window: list[int] = []

    def run(self) -> float:
        """Train for a while; returns the seconds of one step of any of them."""
        before, end = list(self._steps), time.monotonic() + WINDOW
        begin = time.perf_counter()
        threads = [
            threading.Thread(target=self._train, args=[number, end])
            for number in range(len(self._sessions))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.window = [now - then for now, then in zip(self._steps, before, strict=True)]
        return (time.perf_counter() - begin) / sum(self.window)

    def close(self) -> None:
        """End the sessions."""
        for session in self._sessions:
            session.close()

    def _train(self, number: int, end: float) -> None:
        session = self._sessions[number]
        while time.monotonic() < end:
            step = self._steps[number] = self._steps[number] + 1
            session.begin_step(step, self._activation_TW, LENGTHS, LABELS)
            session.end_step()
            session.apply(step, 1e-5)


def run_bare(split_layer: int) -> None:
    """Take steps without a server whenever a line comes; answers with the seconds of one."""
    torch.set_num_threads(1)
    model = pretrained()
    spec, shape = spec_of(model, split_layer), shape_of(model.config)
    build = ModelBuilder(ModelCatalog([], trust_paths=True), torch.device("cpu"))
    session, _ = build(spec, None, None)
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


class Bare:
    """The process of `run_bare`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()

    def run(self) -> float:
        """Return the seconds of one step."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def bare(core: int, split_layer: int) -> Iterator[Bare]:
    """Run the bare compute on a core."""
    words = ["--bare", "--split-layer", str(split_layer)]
    process = subprocess.Popen(
        ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.scale", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield Bare(process)
    finally:
        process.communicate()


def figures_at(
    count: int, options: argparse.Namespace, beside: Bare, core: int
) -> Iterator[Figure]:
    """Yield what so many edges find on a cloud of their own."""
    model = pretrained()
    spec, shape = spec_of(model, options.split_layer), shape_of(model.config)
    serve = command("sft_cloud", "serve", "--cpu", "--max-sessions", count)
    with tempfile.TemporaryDirectory(prefix="sft-scale-") as place, ExitStack() as stack:
        pinned = ["env", "OMP_NUM_THREADS=1", "taskset", "-c", str(core)]
        cloud = stack.enter_context(LocalCloud(Path(place), [*pinned, *serve]))
        address = cloud.address()
        before = resident_bytes(cloud.pid)
        edges = Edges(address, spec, shape, count)
        stack.callback(edges.close)
        found = in_turn({"edges": edges.run, "bare": beside.run}, 1 if options.quick else 5)
        grown = (resident_bytes(cloud.pid) - before) / count
        goal = {"at_least": 0.9} if count == 16 else {}
        rate = median_ratio(found["bare"], found["edges"])
        yield Figure(name=f"{count} edges: rate over bare compute", value=rate, **goal)
        yield Figure(
            name=f"{count} edges: slowest over fastest",
            value=min(edges.window) / max(edges.window),
        )
        yield Figure(name=f"{count} edges: MB of the cloud for each", value=grown / 1e6)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = benchmark_parser("scale", __doc__)
    parser.add_argument("--split-layer", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.bare:
        return run_bare(options.split_layer)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ConfigError("edges and cloud need a core each; this process may use one")
    os.sched_setaffinity(0, cores[:-1])
    torch.set_num_threads(1)
    figures: list[Figure] = []
    with bare(cores[-1], options.split_layer) as beside:
        for count in EDGES:
            figures += figures_at(count, options, beside, cores[-1])
    show("scale", figures, options)


if __name__ == "__main__":
    main()
