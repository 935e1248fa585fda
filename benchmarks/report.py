"""What every benchmark of speed, bytes and memory says in the end: figures beside their goals."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.programs import machine
from sft_common import __version__
from sft_common.commandline import OneLineParser
from sft_common.files import written_aside


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number that was measured."""

    name: str
    """What it is, with its unit."""

    value: float

    at_most: float | None = None
    """The goal, from above."""

    at_least: float | None = None
    """The goal, from below."""

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    def words(self) -> tuple[str, str, str]:
        """Return name, value and goal for people."""
        if self.met is None:
            return self.name, f"{self.value:,.4g}", ""
        sign, bound = ("<=", self.at_most) if self.at_most is not None else (">=", self.at_least)
        return self.name, f"{self.value:,.4g}", f"{sign} {bound:g} {'' if self.met else 'MISSED'}"


def benchmark_parser(program: str, doc: str) -> OneLineParser:
    """Return a parser with the options that all benchmarks have."""
    parser = OneLineParser(prog=f"python -m benchmarks.{program}", description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most 5 minutes, fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser


def show(program: str, figures: Sequence[Figure], options: argparse.Namespace, **more: Any) -> None:
    """Print the figures, and write them to the file of `--json`.

    Args:
        program: name of the benchmark.
        figures: what it found.
        options: as given.
        more: whatever else belongs to the results.
    """
    rows = [figure.words() for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, goal in rows:
        print(f"{name:<{widths[0]}}  {value:>{widths[1]}}  {goal}".rstrip())
    if options.json:
        found = {
            "benchmark": program,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": {name: str(value) for name, value in vars(options).items()},
            "machine": machine(),
            "version": __version__,
            "figures": [{**asdict(figure), "met": figure.met} for figure in figures],
            **more,
        }
        with written_aside(options.json) as aside:
            aside.write_text(json.dumps(found, indent=1) + "\n")


def in_turn(
    contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Measure contenders one after the other, round by round, so that all see the same machine.

    Args:
        contenders: name -> what measures it once and returns seconds.
        rounds: that count.
        warm_up: rounds before them.

    Returns:
        Name -> what its rounds took.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-warm_up, rounds):
        for name, measure in contenders.items():
            seconds = measure()
            if number >= 0:
                found[name].append(seconds)
    return found


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median over rounds of the ratio of two contenders in the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
