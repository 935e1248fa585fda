"""Time of a training step at BERT-base over links from good to poor, beside other ways to do it.

    python -m benchmarks.step --data DIR [--quick] [--json FILE] [--hivemind PYTHON]

Contenders are processes that take their steps in turn, over a link between two network namespaces
(tunnel.py; Linux, root): "local" fine-tunes the whole model on the edge, "edge alone" is the edge's
own share of the work; "plain" is plain split learning and "paper" SFT as published, both in
lockstep, in float32 and padded to 66. "rpc" is the paper's cut over torch.distributed.rpc,
"hivemind" over its RemoteExpert in 8 bits, both on the batches of "defaults", padded to the
longest. Sentences have the lengths of SST-2, in batches of about one length; numbers are random.

Edge and tunnel have a core each. The cloud's device is emulated: it sleeps as long as the cloud's
share of a step and of the update was measured to take on the edge's core, divided by `--factor`,
and not at all for factor 0, which stands for a cloud that is infinitely fast.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bytes import sst2_lengths
from benchmarks.driven import Driven
from benchmarks.link import LINKS, Link
from benchmarks.null_cloud import Device
from benchmarks.programs import LocalCloud, both_cores
from benchmarks.report import Benchmark, Figure, Found, in_turn, progress
from benchmarks.step_edges import write_bert_base
from benchmarks.tunnel import CLOUD_IP, Tunnel, tunnel
from sft_common.plan import Plan, epoch_batches
from sft_edge.defaults import CUT, MICRO_BATCHES, USUAL

BATCH_SIZE = 32

BATCHES, QUICK_BATCHES, REPEATS = 5, 2, 3
"""How many batches, from short to long; how often each is taken on each link."""

RPC_PORT, HIVEMIND_PORT = 29_500, 29_501

PAPER_RANK = 8

STEPS_LINKS = (Link("no limit", 0, 0), *LINKS[1:])

QUICK_LINKS = (LINKS[2], LINKS[3])

Taken = dict[str, dict[str, list[float]]]
"""Link -> contender -> seconds of each step, batch by batch, repeat by repeat."""


class Arena:
    """Where contenders run: the tunnel, a model, the batches.

    Args:
        folder: for everything that is written.
        between: edges and clouds.
        options: of the command line.
        batches: lengths of the examples of each.
    """

    def __init__(
        self,
        folder: Path,
        between: Tunnel,
        options: argparse.Namespace,
        batches: Sequence[Sequence[int]],
    ) -> None:
        self.folder, self.tunnel, self.options = folder, between, options
        self.batches = len(batches)
        self._model, self._lengths = folder / "bert-base", folder / "lengths.json"
        write_bert_base(self._model)
        self._lengths.write_text(json.dumps(batches))

    def edge(self, name: str, *, server: str = "", device: Device = Device()) -> Driven:
        """Return a contender that does not run yet."""
        options = self.options
        ours = name in ("edge alone", "defaults")
        known = {
            "--model": self._model,
            "--lengths": self._lengths,
            "--server": server,
            "--cut": options.cut,
            "--split-layer": options.split_layer,
            "--rank": options.rank if ours else PAPER_RANK,
            "--encoding": options.encoding if ours else "float32",
            "--grad-encoding": options.grad_encoding if ours else "float32",
            "--micro-batches": options.micro_batches,
        }
        python = options.hivemind if name == "hivemind" else sys.executable
        words = [str(word) for pair in known.items() for word in pair]
        command = [python, "-m", "benchmarks.step_edges", name, *words]
        return self._driven("edge", name, [*command, "--device", *map(repr, device)])

    @contextmanager
    def null_cloud(self) -> Iterator[str]:
        """Run our own cloud; yields its address."""
        serve = [sys.executable, "-m", "benchmarks.null_cloud", "--host", CLOUD_IP]
        place = self.folder / "null"
        place.mkdir(exist_ok=True)
        with LocalCloud(place, self._at("cloud", serve)) as cloud:
            yield f"{CLOUD_IP}:{cloud.port()}"

    def other_cloud(self, system: str, port: int, device: Device) -> Driven:
        """Return the cloud of another system, which does not run yet."""
        python = self.options.hivemind if system == "hivemind" else sys.executable
        words = ["--ip", CLOUD_IP, "--port", str(port), "--device", *map(repr, device)]
        command = [python, "-m", "benchmarks.step_clouds", system, *words]
        return self._driven("cloud", f"{system} cloud", command)

    def _at(self, end: str, command: list[str]) -> list[str]:
        """Return a command as it runs at one end of the tunnel, on that end's core."""
        edge, cloud = both_cores()
        core = edge if end == "edge" else cloud
        return self.tunnel.at(end, ["taskset", "-c", str(core), *command])

    def _driven(self, end: str, name: str, command: list[str]) -> Driven:
        # torch would look for its own address by the name of the machine.
        ways = dict.fromkeys(("TP_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), self.tunnel.device(end))
        environment = {**ways, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.folder)}
        return Driven(self._at(end, command), self.folder / f"{name}.log", environment)


def chosen_batches(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Return batches of about one length each, evenly from the shortest to the longest."""
    plan = Plan(epochs=1, batch_size=BATCH_SIZE, learning_rate=0, seed=0, group_by_length=True)
    batches = [[lengths[row] for row in rows] for rows in epoch_batches(plan, lengths, 0)]
    ordered = sorted((batch for batch in batches if len(batch) == BATCH_SIZE), key=sum)
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


def device_on_the_edge(arena: Arena) -> Device:
    """Return how long the cloud's share takes on the edge's core: a line through its batches."""
    progress("the cloud's share on the edge's core")
    with arena.edge("device") as edge:
        edge.ask("0")
        asked = [number for _ in range(REPEATS) for number in range(arena.batches)]
        found = np.array([json.loads(edge.ask(str(number))) for number in asked])
    tokens, step, update = found.T
    token, fixed = np.polyfit(tokens, step, 1)
    return Device(max(0.0, float(fixed)), float(token), float(np.median(update)))


@contextmanager
def contenders(arena: Arena, device: Device, *, infinite: bool) -> Iterator[Mapping[str, Driven]]:
    """Run all contenders, or those that the goals for an infinitely fast cloud need."""
    options = arena.options
    with ExitStack() as stack:
        server = stack.enter_context(arena.null_cloud())
        names = ["edge alone", "defaults"] + ([] if infinite else ["local", "plain", "paper"])
        found = {
            name: stack.enter_context(arena.edge(name, server=server, device=device))
            for name in names
        }
        if not infinite:
            stack.enter_context(arena.other_cloud("rpc", RPC_PORT, device))
            edge = arena.edge("rpc", server=f"{CLOUD_IP}:{RPC_PORT}", device=device)
            found["rpc"] = stack.enter_context(edge)
        if options.hivemind and not infinite:
            cloud = stack.enter_context(arena.other_cloud("hivemind", HIVEMIND_PORT, device))
            edge = arena.edge("hivemind", server=cloud.ready, device=device)
            found["hivemind"] = stack.enter_context(edge)
        yield found


def measure_links(
    arena: Arena, links: Sequence[Link], device: Device, *, repeats: int, infinite: bool
) -> tuple[Taken, dict[str, int]]:
    """Return what all steps took, and the micro-batches that the defaults chose on each link."""
    found: Taken = {}
    chosen: dict[str, int] = {}
    arena.tunnel.become(links[0])
    with contenders(arena, device, infinite=infinite) as edges:
        for link in links:
            progress(f"cloud {'infinitely fast' if infinite else 'emulated'}, {link.name}")
            arena.tunnel.become(link)
            chosen[link.name] = int(edges["defaults"].ask(f"tune {arena.batches}"))
            found[link.name] = {name: [] for name in edges}
            for number in [0, *range(arena.batches)]:  # the first is warm-up
                takes = {
                    name: (lambda edge=edge, n=number: float(edge.ask(str(n))))
                    for name, edge in edges.items()
                }
                warm_up = not found[link.name]["defaults"]
                taken = in_turn(takes, 1 if warm_up else repeats, warm_up=0)
                for name, seconds in taken.items():
                    found[link.name][name] += seconds
            for seconds in found[link.name].values():
                del seconds[0]
    return found, chosen


GOALS: dict[tuple[str, str, str, float], Mapping[str, float]] = {
    ("defaults", "edge alone", "100 Mbit/s, 40 ms", 0): {"at_most": 1.10},
    ("defaults", "edge alone", "5 Mbit/s, 100 ms", 0): {"at_most": 1.25},
    ("paper", "defaults", "10 Mbit/s, 40 ms", 6): {"at_least": 1.5},
    ("plain", "defaults", "10 Mbit/s, 40 ms", 6): {"at_least": 20},
    ("local", "defaults", "100 Mbit/s, 40 ms", 6): {"at_least": 3},
}
"""(above, below, link, factor) -> the bound of their ratio."""


def ratio(above: Sequence[float], below: Sequence[float], repeats: int) -> float:
    """Return the median over repeats of the ratio of what all batches took together."""
    sums = [np.array(taken).reshape(-1, repeats).sum(axis=0) for taken in (above, below)]
    return float(np.median(sums[0] / sums[1]))


def figures_of(found: Taken, factor: float, repeats: int) -> Iterator[Figure]:
    """Yield seconds of a step, and the ratios of everything to the defaults."""
    cloud = f"cloud {factor:g} times the edge" if factor else "cloud infinitely fast"
    for link, taken in found.items():
        for name, seconds in taken.items():
            yield Figure(name=f"{cloud}, {link}: {name}, s", value=statistics.mean(seconds))
        pairs = [("defaults", "edge alone")]
        pairs += [(name, "defaults") for name in taken if name not in ("defaults", "edge alone")]
        for above, below in pairs:
            goal = GOALS.get((above, below, link, factor), {})
            if above in ("rpc", "hivemind"):
                goal = {"at_least": 1.0}
            value = ratio(taken[above], taken[below], repeats)
            yield Figure(name=f"{cloud}, {link}: {above} over {below}", value=value, **goal)


def measure(options: argparse.Namespace) -> Found:
    """Measure every factor on every link."""
    repeats, links = (1, QUICK_LINKS) if options.quick else (options.repeats, STEPS_LINKS)
    count = QUICK_BATCHES if options.quick else BATCHES
    batches = chosen_batches(sst2_lengths(options.data), count)
    figures: list[Figure] = []
    more: dict[str, Any] = {"lengths": batches}
    if not options.hivemind:
        print("hivemind is left out: --hivemind names a Python that has it")
    with tempfile.TemporaryDirectory(prefix="sft-step-") as place:
        with tunnel(Path(place), both_cores()[1]) as between:
            arena = Arena(Path(place), between, options, batches)
            device = device_on_the_edge(arena)
            more["device on the edge"] = device._asdict()
            for factor in options.factor:
                shared = Device(*(seconds / factor if factor else 0.0 for seconds in device))
                found, chosen = measure_links(
                    arena, links, shared, repeats=repeats, infinite=not factor
                )
                more[f"factor {factor:g}"] = {"seconds": found, "micro-batches": chosen}
                figures += figures_of(found, factor, repeats)
    return Found(figures, more)


if __name__ == "__main__":
    benchmark = Benchmark("step", __doc__)
    add = benchmark.parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="of sst2")
    add(
        "--hivemind",
        type=Path,
        metavar="PYTHON",
        help="a Python that has hivemind 1.1.12 and numpy < 2.4",
    )
    add("--factor", type=float, nargs="+", default=[0, 6], metavar="F")
    add("--repeats", type=int, default=REPEATS, metavar="N", help="of each batch on each link")
    add("--split-layer", type=int, default=2)
    add("--cut", default=CUT)
    add("--rank", type=int, default=USUAL[CUT].lower, help="60: 32 bytes a token in int4")
    add("--encoding", default=USUAL[CUT].encoding)
    add("--grad-encoding", default=USUAL[CUT].encoding)
    add("--micro-batches", default=str(MICRO_BATCHES))
    benchmark.run(measure)
