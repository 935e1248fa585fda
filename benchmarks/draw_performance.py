"""Draws what the benchmarks of speed, bytes and memory found, a picture for each.

    python -m benchmarks.draw_performance FILE.json ... --to DIR

Each file is what `--json` of a benchmark wrote; the picture has the benchmark's name. It starts
none.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_common.commandline import OneLineParser, run_command
from sft_common.errors import ConfigError, DataError, first_line

Result = Mapping[str, Any]
"""What a benchmark wrote."""

WIDTH, ROW_HEIGHT, FRAME_HEIGHT = 8.0, 0.28, 1.2
"""Inches."""

CONTENDERS = {
    "edge alone": "0.75",
    "defaults": "tab:orange",
    "local": "0.45",
    "paper": "tab:blue",
    "rpc": "tab:cyan",
    "hivemind": "tab:green",
    "plain": "tab:red",
}
"""Of step.py, and their colours."""

PARTS = ("edge", "cloud", "encode", "decode", "wire", "queue", "cloud_codec")
"""Of breakdown.py."""


def draw_bytes(axes: Any, result: Result) -> int:
    """Draw megabytes of an epoch and their formula; returns how many rows that needs."""
    epoch = result["epoch"]
    names = [one["name"] for one in epoch]
    moved = [(one["up"] + one["down"]) / 1e6 for one in epoch]
    axes.barh(names, moved, color="tab:orange", label="counted on the socket")
    formula = [2 * one["formula"] / 1e6 for one in epoch]
    axes.plot(formula, names, "k|", markersize=9, label="formula")
    for name, megabytes in zip(names, moved, strict=True):
        axes.annotate(f" {moved[0] / megabytes:,.0f}x fewer", (megabytes, name), va="center")
    axes.set_xscale("log")
    axes.set_xlim(right=max(moved) * 8)
    axes.set_xlabel("MB both ways, " + ("100 steps" if _quick(result) else "an epoch of SST-2"))
    return len(names)


def draw_step(axes: Any, result: Result) -> int:
    """Draw the mean seconds of a step on each link; returns how many rows that needs."""
    parts = {name: part for name, part in result.items() if name.startswith("factor ")}
    rows: list[tuple[str, str, float]] = []
    for factor, part in parts.items():
        speed = factor.removeprefix("factor ")
        cloud = "infinitely fast cloud" if speed == "0" else f"cloud {speed} times the edge"
        for link, taken in part["seconds"].items():
            for name in (known for known in CONTENDERS if known in taken):
                rows.append((f"{link}, {cloud}: {name}", name, statistics.mean(taken[name])))
    axes.barh(
        [label for label, _, _ in rows],
        [seconds for _, _, seconds in rows],
        color=[CONTENDERS[name] for _, name, _ in rows],
    )
    for label, _, seconds in rows:
        axes.annotate(f" {seconds:.2f}", (seconds, label), va="center", fontsize="small")
    axes.set_xscale("log")
    axes.set_xlabel("seconds a step")
    return len(rows)


def draw_scale(axes: Any, result: Result) -> int:
    """Draw the cloud's rate beside its bare compute; returns how many rows that needs."""
    at = result["at"]
    names = [f"{one['edges']} edges" for one in at]
    axes.barh(names, [one["rate_over_bare"] for one in at], color="tab:orange", label="all edges")
    fair = [min(one["steps"]) / max(one["steps"]) for one in at]
    axes.plot(fair, names, "kD", label="slowest over fastest edge")
    axes.axvline(0.9, color="tab:red", linestyle="--", label="goal at 16 edges")
    axes.set_xlabel("rate over that of the same work without a server")
    return 2 * len(names)


def draw_memory(axes: Any, result: Result) -> int:
    """Draw the edge's peak memory by split layer; returns how many rows that needs."""
    peaks = result["peak bytes"]
    names = [*(f"split layer {layer}" for layer in peaks["layers"]), "whole model"]
    megabytes = [peak / 1e6 for peak in (*peaks["layers"].values(), peaks["whole"])]
    axes.barh(names, megabytes, color=["tab:orange"] * (len(names) - 1) + ["0.45"])
    axes.axvline(peaks["empty"] / 1e6, color="k", linestyle="--", label="no model at all")
    axes.set_xlabel("peak memory of the edge, MB")
    return len(names)


def draw_breakdown(axes: Any, result: Result) -> int:
    """Draw what a step consists of; returns how many rows that needs."""
    rounds = result["rounds"]
    left = dict.fromkeys(rounds, 0.0)
    for part in PARTS:
        seconds = [statistics.median(one[part] for one in each) for each in rounds.values()]
        axes.barh([*rounds], seconds, left=[*left.values()], label=part)
        left = {name: left[name] + s for name, s in zip(rounds, seconds, strict=True)}
    axes.set_xlabel("seconds of a step")
    return 2 * len(rounds)


def draw_goals(axes: Any, result: Result) -> int:
    """Draw every figure that has a goal, beside it; returns how many rows that needs."""
    bounded = [f for f in result["figures"] if f["met"] is not None]
    names = [f["name"] for f in bounded]
    colours = ["tab:green" if f["met"] else "tab:red" for f in bounded]
    axes.barh(names, [f["value"] for f in bounded], color=colours)
    goals = [f["at_least"] if f["at_most"] is None else f["at_most"] for f in bounded]
    axes.plot(goals, names, "k|", markersize=14, label="goal")
    axes.set_xscale("log")
    axes.set_xlabel("ratio")
    return len(names)


PICTURES: Mapping[str, Callable[[Any, Result], int]] = {
    "bytes": draw_bytes,
    "step": draw_step,
    "scale": draw_scale,
    "memory": draw_memory,
    "breakdown": draw_breakdown,
    "messages": draw_goals,
}
"""Name of a benchmark -> what draws its picture."""


def draw(result: Result, folder: Path) -> Path:
    """Write one picture, SVG; the same result gives the same bytes.

    Raises:
        DataError: no such benchmark is known here.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from benchmarks.accuracy_figures import STYLE

    name = str(result.get("benchmark"))
    if name not in PICTURES:
        raise DataError(f"benchmark {name!r} has no picture; these have: {', '.join(PICTURES)}")
    with matplotlib.rc_context(STYLE | {"axes.axisbelow": True}):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        rows = PICTURES[name](axes, result)
        figure.set_size_inches(WIDTH, FRAME_HEIGHT + ROW_HEIGHT * rows)
        axes.invert_yaxis()
        where = f"{result['date'][:10]}, {result['machine']['cpu']}"
        axes.set_title(f"benchmarks/{name}.py, {where}", fontsize="medium")
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4, fontsize="small")
        target = folder / f"{name}.svg"
        figure.savefig(target, metadata={"Date": None, "Creator": None})
    return target


def _quick(result: Result) -> bool:
    return bool(result["options"]["quick"] == "True")


def draw_all(files: Sequence[Path], folder: Path) -> None:
    """Write the pictures of some results.

    Raises:
        ConfigError: matplotlib is missing.
        DataError: a file is no result of a benchmark that has a picture.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures need matplotlib: pip install matplotlib")
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        try:
            print(draw(json.loads(file.read_text()), folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"cannot draw {file}: {first_line(error)}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (it could not) or 2 (wrong usage)."""
    parser = OneLineParser(
        prog="python -m benchmarks.draw_performance", description=__doc__.splitlines()[0]
    )
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE.json")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="where they go")
    options: argparse.Namespace = parser.parse_args(arguments)
    sys.exit(run_command("draw_performance", lambda: draw_all(options.results, options.to)))


if __name__ == "__main__":
    main()
