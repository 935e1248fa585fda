"""Whether a step takes as long as `sft-edge plan` says, and whether its best plan is the best.

    python -m benchmarks.plan --data DIR [--quick] [--json FILE]

Both real programs over a tunnel between two network namespaces (tunnel.py; Linux, root) of
100 Mbit/s and 40 ms, on a core each: all-MiniLM-L6-v2 on SST-2. First the plan is made, then plans
are tried, a training each, in turn: the recommended one, and others that differ in block, cut,
rank, encoding, parts and where labels are. All take as many steps on the same batches; what a step
took is the mean without the slowest tenth, the forecast is that of a mean batch. Each round plans
anew before it tries.
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
from benchmarks.report import Benchmark, Figure, Found, median_ratio, progress
from benchmarks.tunnel import CLOUD_IP, Tunnel, tunnel
from sft_common.errors import SftError

LINK = next(link for link in LINKS if link.mbit == 100)

MODEL, EXAMPLES = "all-MiniLM-L6-v2", 4000

STEPS, QUICK_STEPS, WARM_UP = 30, 25, 5
"""Steps of a training, and those of them that do not count."""

ROUNDS = 3

ANY_LOSS = ("--max-accuracy-loss", "100")

Plan = dict[str, Any]
"""As `sft-edge plan --json` has it, and where labels are."""

Plans = dict[str, list[Plan]]
"""Where labels are -> all plans, the recommended one first."""


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

    def plans(self) -> Plans:
        """Return all plans, whatever they cost in accuracy, for each place of labels."""
        scene = str(self._folder / "scene.toml")
        line = ["--json", *ANY_LOSS]
        sent = self._edge("plan", *self._what, *line, "--save", scene)
        kept = self._edge("plan", "--from", scene, *line, "--labels", "edge")
        return {"cloud": json.loads(sent)["plans"], "edge": json.loads(kept)["plans"]}

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


def to_try(found: Plans) -> dict[str, Plan]:
    """Return plans that differ in everything that can be chosen, the recommended one first."""
    plans = found["cloud"]
    best = plans[0]

    def first(**wanted: object) -> Plan:
        return next(p for p in plans if all(p[name] == value for name, value in wanted.items()))

    layers = sorted({plan["split_layer"] for plan in plans})
    tried = {
        "recommended": best,
        "in one part": first(**{n: best[n] for n in SETTING[:-1]}, micro_batches=1),
        "uncut": first(cut="none", encoding="float32"),
        "the paper's": first(cut="sft", rank=8, encoding="float32", micro_batches=1),
        "lowest block": first(cut="stream", split_layer=layers[0], encoding="int4"),
        "middle block": first(cut="stream", split_layer=layers[len(layers) // 2], encoding="int8"),
        "highest block": first(cut="stream", split_layer=layers[-1], encoding="int4"),
        "eight parts": first(cut="stream", rank=64, encoding="float32", micro_batches=8),
    }
    found_here = {name: {**plan, "labels": "cloud"} for name, plan in tried.items()}
    return {**found_here, "labels kept": {**found["edge"][0], "labels": "edge"}}


SETTING = ("cut", "split_layer", "rank", "encoding", "micro_batches")


def forecast_of(found: Plans, plan: Plan) -> float:
    """Return the seconds of a step of a plan, as another round has predicted them."""
    same = (p for p in found[plan["labels"]] if all(p[name] == plan[name] for name in SETTING))
    return float(next(same)["seconds"])


def measure(options: argparse.Namespace) -> Found:
    """Plan, try, compare; in each round anew, since the machine is never the same for long."""
    steps, rounds = (QUICK_STEPS, 1) if options.quick else (STEPS, ROUNDS)
    tried: dict[str, Plan] = {}
    taken: dict[str, list[float]] = {}
    forecast: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sft-plan-") as place:
        with staged(Path(place), LINK, options.data) as stage:
            for _ in range(rounds):
                progress("plan")
                found = stage.plans()
                tried = tried or to_try(found)
                for name, plan in tried.items():
                    progress(f"{name}: {' '.join(str(plan[each]) for each in SETTING)}")
                    seconds = trimmed_mean(stage.step_seconds(plan, steps))
                    taken.setdefault(name, []).append(seconds)
                    forecast.setdefault(name, []).append(forecast_of(found, plan))
    more = {"plans": tried, "seconds": taken, "forecast": forecast}
    return Found(list(_figures(taken, forecast)), more)


def _figures(taken: dict[str, list[float]], forecast: dict[str, list[float]]) -> Iterator[Figure]:
    for name, seconds in taken.items():
        yield Figure(name=f"{name}: a step, ms", value=fmean(seconds) * 1e3)
        ratio = median_ratio(seconds, forecast[name])
        yield Figure(name=f"{name}: measured over forecast", value=ratio, at_most=1.2)
        yield Figure(name=f"{name}: forecast over measured", value=1 / ratio, at_most=1.25)
    others = [name for name in taken if name not in ("recommended", "labels kept")]
    ratio = max(median_ratio(taken["recommended"], taken[name]) for name in others)
    yield Figure(name="recommended over the fastest that was tried", value=ratio, at_most=1.1)


def trimmed_mean(seconds: Sequence[float]) -> float:
    """Return the mean without the tenth that took longest: something else held those up."""
    ordered = sorted(seconds)
    return fmean(ordered[: max(1, len(ordered) * 9 // 10)])


if __name__ == "__main__":
    benchmark = Benchmark("plan", __doc__)
    benchmark.parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="of sst2")
    benchmark.run(measure)
