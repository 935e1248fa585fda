"""Time of a training step at BERT-base over links from good to poor, beside other ways to do it.

    python -m benchmarks.step --data DIR [--quick] [--json FILE] [--hivemind PYTHON]

Contenders are processes that take their steps in turn, over a link between two network namespaces
(tunnel.py; Linux, root): "local" fine-tunes the whole model on the edge, "edge alone" is the edge's
own share of the work, "plain" is plain split learning and "paper" SFT as published, both in
lockstep, in float32 and padded to 66; "rpc" (torch.distributed.rpc) and "hivemind" (its
RemoteExpert, in 8 bits) do what "paper" does. Sentences have the lengths of SST-2, numbers are
random.

Edge and tunnel have a core each. The cloud's device is emulated: it sleeps as long as this edge
would take for the cloud's share, divided by `--factor`, and not at all for factor 0, which stands
for a cloud that is infinitely fast.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bytes import sst2_lengths
from benchmarks.link import LINKS, Link
from benchmarks.programs import LocalCloud, last_line
from benchmarks.report import Figure, benchmark_parser, in_turn, median_ratio, show
from benchmarks.step_edges import write_bert_base
from benchmarks.tunnel import CLOUD_IP, Tunnel, tunnel
from sft_common.errors import ConfigError, SftError
from sft_common.plan import Plan, epoch_batches

BATCH_SIZE = 32

RPC_PORT, HIVEMIND_PORT = 29_500, 29_501

PAPER_RANK = 8

OWN = ("local", "edge alone", "plain", "paper", "defaults")

QUICK_LINKS = (LINKS[0], LINKS[2], LINKS[3])

WARM_UP = 20
"""Steps of the defaults before anything counts: they find their number of micro-batches."""


class Contender:
    """An edge that takes a step when it is told to.

    Args:
        process: of step_edges.py.
        log: what it says besides.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def step(self, number: int) -> float:
        """Take a step with the batch of a number; returns its seconds.

        Raises:
            SftError: it has died.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        return float(self.line())

    def line(self) -> str:
        """Return what it says next; raises like `step`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise SftError(f"a contender died: {last_line(self._log.read_text())}")
        return line


class Arena:
    """Where contenders run: the tunnel, a model, the batches.

    Args:
        folder: for everything that is written.
        tunnel: between edges and clouds.
        options: of the command line.
    """

    def __init__(self, folder: Path, tunnel: Tunnel, options: argparse.Namespace) -> None:
        self.folder, self.tunnel, self.options = folder, tunnel, options
        self._cores = sorted(os.sched_getaffinity(0))

    def model(self) -> Path:
        """Write a BERT-base with random numbers, once; returns its folder."""
        folder = self.folder / "bert-base"
        if not folder.is_dir():
            write_bert_base(folder)
        return folder

    def lengths(self, batches: Sequence[Sequence[int]]) -> Path:
        """Write the lengths of the batches' examples; returns the file."""
        file = self.folder / "lengths.json"
        file.write_text(json.dumps(batches))
        return file

    def pinned(self, end: str, command: list[str]) -> list[str]:
        """Return a command as it runs at one end of the tunnel, on that end's core."""
        core = self._cores[0 if end == "edge" else -1]
        return self.tunnel.at(end, ["taskset", "-c", str(core), *command])

    @contextmanager
    def edge(self, name: str, *, server: str = "", seconds: float = 0) -> Iterator[Contender]:
        """Run a contender."""
        options, log = self.options, self.folder / f"{name}.log"
        ours = name in ("edge alone", "defaults")
        known = {
            "--model": self.model(),
            "--lengths": self.folder / "lengths.json",
            "--server": server,
            "--cut": options.cut,
            "--split-layer": options.split_layer,
            "--rank": options.rank if ours else PAPER_RANK,
            "--encoding": options.encoding if ours else "float32",
            "--grad-encoding": options.grad_encoding if ours else "float32",
            "--micro-batches": options.micro_batches,
            "--seconds": repr(seconds),
        }
        python = options.hivemind if name == "hivemind" else sys.executable
        words = [str(word) for pair in known.items() for word in pair]
        command = [python, "-m", "benchmarks.step_edges", name, *words]
        with self._running(self.pinned("edge", command), log, "edge") as process:
            contender = Contender(process, log)
            contender.line()
            yield contender

    @contextmanager
    def null_cloud(self) -> Iterator[str]:
        """Run our own cloud; yields its address."""
        serve = [sys.executable, "-m", "benchmarks.null_cloud", "--host", CLOUD_IP]
        place = self.folder / "null"
        place.mkdir(exist_ok=True)
        with LocalCloud(place, self.pinned("cloud", serve)) as cloud:
            yield f"{CLOUD_IP}:{cloud.port()}"

    @contextmanager
    def other_cloud(self, system: str, port: int, seconds: float) -> Iterator[str]:
        """Run the cloud of another system; yields the last word it says when it is ready."""
        python = self.options.hivemind if system == "hivemind" else sys.executable
        words = ["--ip", CLOUD_IP, "--port", str(port), "--seconds", repr(seconds)]
        command = [python, "-m", "benchmarks.step_clouds", system, *words]
        log = self.folder / f"{system}-cloud.log"
        with self._running(self.pinned("cloud", command), log, "cloud") as process:
            yield Contender(process, log).line().split()[-1]

    @contextmanager
    def _running(self, command: list[str], log: Path, end: str) -> Iterator[subprocess.Popen[str]]:
        # torch would look for its own address by the name of the machine.
        ways = dict.fromkeys(("TP_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), self.tunnel.device(end))
        with open(log, "wb") as said:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, **ways, "OMP_NUM_THREADS": "1"},
            )
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def chosen_batches(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Return batches of about one length each, evenly from the shortest to the longest."""
    plan = Plan(epochs=1, batch_size=BATCH_SIZE, learning_rate=0, seed=0, group_by_length=True)
    batches = [[lengths[row] for row in rows] for rows in epoch_batches(plan, lengths, 0)]
    ordered = sorted((batch for batch in batches if len(batch) == BATCH_SIZE), key=sum)
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


def device_seconds(arena: Arena, batches: Sequence[Sequence[int]]) -> float:
    """Return what a token of the cloud's share takes on the edge's core, padding included."""
    with arena.edge("local") as local, arena.edge("edge alone") as alone:
        local.step(0), alone.step(0)
        spent = [local.step(n) - alone.step(n) for n in range(len(batches))]
    return sum(spent) / sum(len(batch) * max(batch) for batch in batches)


@contextmanager
def contenders(arena: Arena, seconds: float) -> Iterator[Mapping[str, Contender]]:
    """Run all contenders with a device that needs so long for a token."""
    with ExitStack() as stack:
        server = stack.enter_context(arena.null_cloud())
        found = {
            name: stack.enter_context(arena.edge(name, server=server, seconds=seconds))
            for name in OWN
        }
        if not arena.options.alone:
            stack.enter_context(arena.other_cloud("rpc", RPC_PORT, seconds))
            edge = arena.edge("rpc", server=f"{CLOUD_IP}:{RPC_PORT}")
            found["rpc"] = stack.enter_context(edge)
        if arena.options.hivemind:
            address = stack.enter_context(arena.other_cloud("hivemind", HIVEMIND_PORT, seconds))
            found["hivemind"] = stack.enter_context(arena.edge("hivemind", server=address))
        yield found


def measure(
    arena: Arena, links: Sequence[Link], rounds: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Return link -> contender -> seconds of each round."""
    found = {}
    with contenders(arena, seconds) as edges:
        for link in links:
            arena.tunnel.become(link)
            for number in range(WARM_UP if link is links[0] else 2):
                edges["defaults"].step(number)
            numbers = {name: iter(range(-1, rounds)) for name in edges}

            def step(name: str, numbers: Mapping[str, Iterator[int]] = numbers) -> float:
                return edges[name].step(max(0, next(numbers[name])))

            takes = {name: (lambda name=name: step(name)) for name in edges}
            found[link.name] = in_turn(takes, rounds)
    return found


GOALS: dict[tuple[str, str, str, bool], Mapping[str, float]] = {
    ("defaults", "edge alone", "100 Mbit/s, 40 ms", True): {"at_most": 1.10},
    ("defaults", "edge alone", "5 Mbit/s, 100 ms", True): {"at_most": 1.25},
    ("paper", "defaults", "10 Mbit/s, 40 ms", False): {"at_least": 1.5},
    ("plain", "defaults", "10 Mbit/s, 40 ms", False): {"at_least": 20},
    ("local", "defaults", "100 Mbit/s, 40 ms", False): {"at_least": 3},
}
"""(above, below, link, whether the cloud is infinitely fast) -> the bound of their ratio."""


def figures_of(
    found: Mapping[str, Mapping[str, Sequence[float]]], factor: float
) -> Iterator[Figure]:
    """Yield medians, and the ratios of everything to the defaults."""
    cloud = f"cloud {factor:g} times the edge" if factor else "cloud infinitely fast"
    for link, taken in found.items():
        for name, seconds in taken.items():
            middle = statistics.median(seconds)
            yield Figure(name=f"{cloud}, {link}: {name}, s", value=middle)
        pairs = [("defaults", "edge alone")]
        pairs += [(name, "defaults") for name in taken if name not in ("defaults", "edge alone")]
        for above, below in pairs:
            goal = GOALS.get((above, below, link, not factor), {})
            if above in ("rpc", "hivemind"):
                goal = {"at_least": 1.0}
            ratio = median_ratio(taken[above], taken[below])
            yield Figure(name=f"{cloud}, {link}: {above} over {below}", value=ratio, **goal)


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = benchmark_parser("step", __doc__)
    top.add_argument("--data", type=Path, required=True, metavar="DIR", help="of sst2")
    top.add_argument("--hivemind", metavar="PYTHON", help="a Python that has hivemind")
    top.add_argument("--alone", action="store_true", help="leave torch.distributed.rpc out")
    top.add_argument("--factor", type=float, nargs="+", default=[0, 6], metavar="F")
    top.add_argument("--split-layer", type=int, default=2)
    top.add_argument("--cut", default="stream")
    top.add_argument("--rank", type=int, default=60)
    top.add_argument("--encoding", default="int4")
    top.add_argument("--grad-encoding", default="int4")
    top.add_argument("--micro-batches", default="auto")
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    if len(os.sched_getaffinity(0)) < 2:
        raise ConfigError("edge and tunnel need a core each; this process may use one")
    rounds, links = (3, QUICK_LINKS) if options.quick else (9, LINKS)
    batches = chosen_batches(sst2_lengths(options.data), rounds)
    figures: list[Figure] = []
    seconds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sft-step-") as place, tunnel() as between:
        arena = Arena(Path(place), between, options)
        arena.lengths(batches)
        token = device_seconds(arena, batches)
        for factor in options.factor:
            found = measure(arena, links, rounds, token / factor if factor else 0.0)
            seconds[f"factor {factor:g}"] = found
            figures += figures_of(found, factor)
    show("step", figures, options, seconds=seconds, lengths=batches)


if __name__ == "__main__":
    main()
