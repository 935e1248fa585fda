"""Many edges, one cloud, and faults all the time: does every run end as if nothing had happened?

Each edge trains again and again with a seed of its own, on real data and a real model; some are
frozen, and the cloud trains for them. Its link is cut, it is killed and resumed, the cloud is
killed or stopped and started again. What a run leaves must be the bytes of its twin, which nothing
disturbed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import resident_bytes
from benchmarks.programs import command
from benchmarks.relay import Relay, counting_relay
from benchmarks.report import Benchmark, Figure, Found
from sft_common.errors import ConfigError, TrainingError

START_SECONDS = 120.0
SAMPLE_SECONDS = 5.0


@dataclass
class Cloud:
    """One cloud with many lives on one port.

    Args:
        folder: of its sessions and its log.
    """

    folder: Path
    port: int = 0
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        line = ["serve", "--cpu", "--port", self.port, "--port-file", port_file]
        line += ["--save-dir", self.folder / "sessions", "--max-sessions", 16, "--park-after", 20]
        line += ["--snapshot-seconds", 5]
        with open(self.folder / "cloud.log", "ab") as log:
            self.process = subprocess.Popen(command("sft_cloud", *line), stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not port_file.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise TrainingError("the cloud did not start; see its log")
            time.sleep(0.05)
        self.port, self.lives = int(port_file.read_text()), self.lives + 1

    def end(self, number: signal.Signals) -> None:
        """End it by a signal, and wait for that."""
        assert self.process is not None
        self.process.send_signal(number)
        if self.process.wait(timeout=120) not in (0, -signal.SIGKILL):
            raise TrainingError(f"the cloud ended with {self.process.returncode}; see its log")

    def half(self, session_id: str) -> bytes:
        """Return the trained net2 of a finished session."""
        return (self.folder / "sessions" / session_id / "cloud.safetensors").read_bytes()


@dataclass
class Edge:
    """One device, which trains the same thing again and again.

    Args:
        line: of its `sft-edge train`, without a name and a server.
        runs: where its runs are left.
        seed: of all of them.
        link: to the cloud.
    """

    line: list[object]
    runs: Path
    seed: int
    link: Relay
    rounds: int = 0
    process: subprocess.Popen[bytes] | None = None
    expected: tuple[bytes, bytes] = (b"", b"")
    steps: int = 0

    @property
    def name(self) -> str:
        """Name of the run that goes on now."""
        return f"edge{self.seed}-{self.rounds}"

    def start(self) -> None:
        """Begin the next run."""
        self.rounds += 1
        seed, server = ("--seed", self.seed), ("--server", self.link.server)
        self._run("train", *self.line, *seed, *server, "--name", self.name)

    def resume(self) -> None:
        """Go on with a run that was killed, or begin it if it had not come so far."""
        folder = self.runs / self.name
        if (folder / "run.json").exists():
            self._run("train", "--resume", folder)
        elif (folder / "metrics.json").exists():  # it had come to its end
            self.process = subprocess.Popen(["true"])
        else:
            self.rounds -= 1
            self.start()

    def kill(self) -> None:
        """Kill it as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def halves(self, cloud: Cloud) -> tuple[bytes, bytes]:
        """Return what its last run has trained, on both sides."""
        folder = self.runs / self.name
        session: str = json.loads((folder / "job.json").read_text())["session_id"]
        self.steps = json.loads((folder / "metrics.json").read_text())["steps"]
        return (folder / "edge.safetensors").read_bytes(), cloud.half(session)

    def ended(self) -> bool:
        """Return whether its run has come to a good end.

        Raises:
            TrainingError: it came to another.
        """
        assert self.process is not None
        if self.process.poll() is None:
            return False
        if self.process.returncode:
            said = (self.runs / f"{self.name}.log").read_text().strip().splitlines()[-1]
            raise TrainingError(f"run {self.name} ended with {self.process.returncode}: {said}")
        return True

    def _run(self, *line: object) -> None:
        with open(self.runs / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(command("sft_edge", *line), stdout=log, stderr=log)


@dataclass
class Tally:
    """What happened."""

    faults: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    unequal: list[str] = field(default_factory=list)
    steps: int = 0
    memory: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds since the beginning, life of the cloud, its resident bytes."""


class Soak:
    """The whole test.

    Args:
        options: of the command line.
        place: for everything that is written.
        stack: ends what is started.
    """

    def __init__(self, options: argparse.Namespace, place: Path, stack: ExitStack) -> None:
        self._options, self._draw, self._tally = options, random.Random(options.seed), Tally()
        (place / "cloud").mkdir()
        (place / "runs").mkdir()
        self._cloud = Cloud(place / "cloud")
        self._cloud.start()
        stack.callback(lambda: self._cloud.end(signal.SIGKILL))
        live = options.edges - options.frozen
        self._edges = [
            Edge(
                _training(options, place / "runs", frozen=seed >= live),
                place / "runs",
                seed,
                stack.enter_context(counting_relay(lambda: self._cloud.port)),
            )
            for seed in range(options.edges)
        ]
        for edge in self._edges:
            stack.callback(edge.kill)

    def run(self) -> Tally:
        """Train the twins, disturb for as long as was asked for, let all come to an end."""
        for edge in self._edges:
            edge.start()
        while not all(edge.ended() for edge in self._edges):
            time.sleep(0.1)
        for edge in self._edges:
            edge.expected = edge.halves(self._cloud)
            edge.start()
        begin = time.monotonic()
        disturbed = begin + 60 * self._options.minutes
        sampled = fault = restart = begin
        while time.monotonic() < disturbed:
            now = time.monotonic()
            self._look_after_edges()
            if now > sampled:
                sampled = now + SAMPLE_SECONDS
                self._sample(now - begin)
            if now > fault:
                fault = now + self._draw.uniform(0.2, 2 * self._options.pause)
                self._disturb_an_edge()
            if now > restart:
                restart = now + self._draw.uniform(0.5, 1.5) * 60 / self._options.restarts
                self._disturb_the_cloud()
            time.sleep(0.02)
        waiting = list(self._edges)
        while waiting:
            waiting = [edge for edge in waiting if not edge.ended()]
            time.sleep(0.1)
        for edge in self._edges:
            self._compare(edge)
        return self._tally

    def _look_after_edges(self) -> None:
        for edge in self._edges:
            if edge.ended():
                self._compare(edge)
                edge.start()

    def _compare(self, edge: Edge) -> None:
        if edge.halves(self._cloud) != edge.expected:
            self._tally.unequal.append(edge.name)
        self._tally.finished += 1
        self._tally.steps += edge.steps

    def _sample(self, seconds: float) -> None:
        assert self._cloud.process is not None
        size = resident_bytes(self._cloud.process.pid)
        self._tally.memory.append((round(seconds, 1), self._cloud.lives, size))

    def _disturb_an_edge(self) -> None:
        edge = self._draw.choice(self._edges)
        if self._draw.random() < 0.8:
            edge.link.cut()
            self._tally.faults["link cut"] += 1
        elif edge.process is not None and edge.process.poll() is None:
            edge.kill()
            edge.resume()
            self._tally.faults["edge killed"] += 1

    def _disturb_the_cloud(self) -> None:
        number = self._draw.choice([signal.SIGKILL, signal.SIGTERM])
        self._cloud.end(number)
        self._cloud.start()
        self._tally.faults[f"cloud ended by {number.name}"] += 1


def _training(options: argparse.Namespace, runs: Path, *, frozen: bool) -> list[object]:
    """Return the command line of an edge."""
    line: list[object] = ["--task", "sst2", "--model", options.model, "--data", options.data]
    line += ["--train-examples", options.examples, "--eval-examples", 32]
    line += ["--batch-size", 4, "--max-length", 32, "--dropout", 0.1]
    line += ["--edge", "frozen", "--epochs", 4] if frozen else ["--micro-batches", 2, "--epochs", 1]
    line += ["--snapshot-every", 10, "--retry-pause", 2, "--wait", 600, "--runs-dir", runs]
    return [*line, "--quiet"]


def measure(options: argparse.Namespace) -> Found:
    """Run the test with the options of the command line.

    Raises:
        ConfigError: the data are not there.
        TrainingError: a program ended as it must not.
    """
    if not options.data.is_dir():
        raise ConfigError(f"--data {options.data}: there is no such folder")
    if options.quick:
        options.minutes = 1.0
    with ExitStack() as stack:
        place = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        tally = Soak(options, place, stack).run()
        seconds = time.monotonic() - begin
    return Found(_figures(tally, seconds), _more(tally))


def _figures(tally: Tally, seconds: float) -> list[Figure]:
    growth = _growth(tally.memory)
    return [
        Figure(name="runs finished", value=tally.finished, at_least=1),
        Figure(name="runs that did not end as their twins", value=len(tally.unequal), at_most=0),
        *(Figure(name=f"faults: {kind}", value=n) for kind, n in sorted(tally.faults.items())),
        Figure(name="steps in runs that finished, each second", value=tally.steps / seconds),
        Figure(name="memory of the cloud, most, MB", value=max(m for *_, m in tally.memory) / 1e6),
        Figure(name="its growth within one life, most, MB", value=growth / 1e6),
    ]


def _growth(memory: list[tuple[float, int, int]]) -> int:
    """Return how much more a cloud had at its end than a third of its life before, at most."""
    most = 0
    for life in {life for _, life, _ in memory}:
        sizes = [size for _, other, size in memory if other == life]
        if len(sizes) > 5:
            most = max(most, sizes[-1] - max(sizes[: len(sizes) // 3 + 1]))
    return most


def _more(tally: Tally) -> dict[str, Any]:
    return {"unequal": tally.unequal, "memory": tally.memory}


def main() -> None:
    """Run the benchmark."""
    benchmark = Benchmark("soak", __doc__)
    add = benchmark.parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="of SST-2")
    add("--model", default="all-MiniLM-L6-v2", metavar="DIR|ID", help="default %(default)s")
    add("--edges", type=int, default=8, metavar="N", help="default %(default)s")
    add("--frozen", type=int, default=2, metavar="N", help="of them (default %(default)s)")
    add("--minutes", type=float, default=20.0, help="of disturbance (default %(default)g)")
    add("--examples", type=int, default=320, metavar="N", help="of a run (default %(default)s)")
    add(
        "--pause", type=float, default=1.5, help="mean seconds between faults (default %(default)g)"
    )
    add("--restarts", type=float, default=0.7, help="of the cloud, a minute (default %(default)g)")
    add("--seed", type=int, default=0, help="of the faults (default %(default)s)")
    add("--keep", type=Path, metavar="DIR", help="leave everything there")
    benchmark.run(measure)


if __name__ == "__main__":
    main()
