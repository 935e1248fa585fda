"""Whether a step takes as long as `sft-edge plan` says, and whether its best plan is the best.

    python -m benchmarks.plan --data DIR [--quick] [--json FILE]

Both real programs over a tunnel between two network namespaces (tunnel.py; Linux, root) of
100 Mbit/s and 40 ms, on a core each: all-MiniLM-L6-v2 on SST-2. First the plan is made, then plans
are tried, a training each, in turn: the recommended one, and others that differ in block, cut,
rank, encoding, parts and where labels are. All take as many steps on the same batches; what a step
took is the mean without the slowest tenth, the forecast is that of a mean batch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.link import LINKS, Link
from benchmarks.programs import LocalCloud, both_cores, command, last_line, on_core
from benchmarks.report import Benchmark, Figure, Found, progress
from benchmarks.tunnel import CLOUD_IP, Tunnel, tunnel
from sft_common.errors import SftError

LINK = next(link for link in LINKS if link.mbit == 100)

MODEL, EXAMPLES = "all-MiniLM-L6-v2", 4000

STEPS, QUICK_STEPS, WARM_UP = 60, 25, 5
"""Steps of a training, and those of them that do not count."""

ROUNDS = 2

Plan = dict[str, Any]
"""As `sft-edge plan --json` has it."""


class Stage:
    """Both programs at their ends of the tunnel.

    Args:
        folder: for everything that is written.
        between: edge and cloud.
        server: the cloud.
        data: of sst2.
    """

    def __init__(self, folder: Path, between: Tunnel, server: str, data: Path) -> None:
        self._folder, self._tunnel = folder, between
        self._what = ["--task", "sst2", "--model", MODEL, "--data", str(data)]
        self._what += ["--server", server, "--train-examples", str(EXAMPLES)]
        self._runs = 0

    def plan(self, *more: str) -> Plan:
        """Return what `sft-edge plan` finds."""
        found: Plan = json.loads(self._edge("plan", *self._what, "--json", *more))
        return found

    def step_seconds(self, plan: Plan, steps: int) -> list[float]:
        """Return what the steps of a training took that does as a plan says."""
        self._runs += 1
        name = f"run-{self._runs}"
        rank = [] if plan["rank"] is None else ["--rank", str(plan["rank"])]
        line = ["--cut", plan["cut"], "--split-layer", str(plan["split_layer"]), *rank]
        line += ["--encoding", plan["encoding"], "--micro-batches", str(plan["micro_batches"])]
        line += ["--labels", plan.get("labels", "cloud"), "--snapshot-every", "0", "--quiet"]
        line += ["--max-steps", str(steps), "--eval-examples", "32", "--log-every", "1"]
        runs = self._folder / "runs"
        self._edge("train", *self._what, *line, "--name", name, "--runs-dir", str(runs))
        lines = (runs / name / "history.jsonl").read_text().splitlines()
        ends = [e["seconds"] for e in map(json.loads, lines) if e["kind"] == "step"]
        return [b - a for a, b in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)]

    def _edge(self, *words: str) -> str:
        line = on_core(both_cores()[0], command("sft_edge", *words))
        done = subprocess.run(self._tunnel.at("edge", line), capture_output=True, text=True)
        if done.returncode:
            raise SftError(f"sft-edge {words[0]} failed: {last_line(done.stderr)}")
        return done.stdout


@contextmanager
def staged(folder: Path, link: Link, data: Path) -> Iterator[Stage]:
    """Put both programs at the ends of a link."""
    with tunnel(folder, both_cores()[1]) as between:
        between.become(link)
        serve = command("sft_cloud", "serve", "--cpu", "--no-save", "--host", CLOUD_IP)
        serve = between.at("cloud", on_core(both_cores()[1], [*serve, "--insecure"]))
        with LocalCloud(folder, serve) as cloud:
            yield Stage(folder, between, f"{CLOUD_IP}:{cloud.port()}", data)


def to_try(found: Plan, kept: Plan) -> dict[str, Plan]:
    """Return plans that differ in everything that can be chosen, the recommended one first.

    Args:
        found: all plans, whatever they cost in accuracy.
        kept: the same with labels on the edge.
    """
    plans: Sequence[Plan] = found["plans"]
    best = plans[0]

    def first(**wanted: object) -> Plan:
        return next(p for p in plans if all(p[name] == value for name, value in wanted.items()))

    layers = sorted({plan["split_layer"] for plan in plans})
    return {
        "recommended": best,
        "in one part": first(**{n: best[n] for n in SETTING[:-1]}, micro_batches=1),
        "uncut": first(cut="none"),
        "the paper's": first(cut="sft", rank=8, encoding="float32", micro_batches=1),
        "lowest block": first(cut="stream", split_layer=layers[0], encoding="int4"),
        "middle block": first(cut="stream", split_layer=layers[len(layers) // 2], encoding="int8"),
        "highest block": first(cut="stream", split_layer=layers[-1], encoding="int4"),
        "eight parts": first(cut="stream", rank=64, encoding="float32", micro_batches=8),
        "labels kept": {**kept["plans"][0], "labels": "edge"},
    }


SETTING = ("cut", "split_layer", "rank", "encoding", "micro_batches")


def measure(options: argparse.Namespace) -> Found:
    """Plan, try, compare."""
    steps, rounds = (QUICK_STEPS, 1) if options.quick else (STEPS, ROUNDS)
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sft-plan-") as place:
        with staged(Path(place), LINK, options.data) as stage:
            progress("plan")
            found = stage.plan("--max-accuracy-loss", "100")
            kept = stage.plan("--max-accuracy-loss", "100", "--labels", "edge")
            tried = to_try(found, kept)
            for _ in range(rounds):
                for name, plan in tried.items():
                    progress(f"{name}: {' '.join(str(plan[each]) for each in SETTING)}")
                    taken.setdefault(name, []).extend(stage.step_seconds(plan, steps))
    figures = list(_figures(tried, taken))
    more = {"plans": tried, "seconds": taken, "found": {**found, "plans": found["plans"][:20]}}
    return Found(figures, more)


def _figures(tried: dict[str, Plan], taken: dict[str, list[float]]) -> Iterator[Figure]:
    for name, plan in tried.items():
        measured = trimmed_mean(taken[name])
        yield Figure(name=f"{name}: a step, ms", value=measured * 1e3)
        ratio = measured / plan["seconds"]
        yield Figure(name=f"{name}: measured over forecast", value=ratio, at_most=1.2)
        yield Figure(name=f"{name}: forecast over measured", value=1 / ratio, at_most=1.25)
    best = min(trimmed_mean(each) for name, each in taken.items() if name != "labels kept")
    ratio = trimmed_mean(taken["recommended"]) / best
    yield Figure(name="recommended over the fastest that was tried", value=ratio, at_most=1.1)


def trimmed_mean(seconds: Sequence[float]) -> float:
    """Return the mean without the tenth that took longest: something else held those up."""
    ordered = sorted(seconds)
    return fmean(ordered[: max(1, len(ordered) * 9 // 10)])


if __name__ == "__main__":
    benchmark = Benchmark("plan", __doc__)
    benchmark.parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="of sst2")
    benchmark.run(measure)
