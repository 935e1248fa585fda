"""What every benchmark of speed, bytes and memory says in the end: figures beside their goals."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.programs import ended_by_signals, machine
from sft_common import __version__
from sft_common.commandline import OneLineParser, run_command
from sft_common.errors import ConfigError
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


@dataclass(frozen=True, slots=True)
class Found:
    """What a benchmark found."""

    figures: Sequence[Figure]

    more: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else belongs to the results."""


class Benchmark:
    """One benchmark's command line and its results.

    Args:
        name: of its module.
        doc: its docstring.
    """

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.parser = OneLineParser(
            prog=f"python -m benchmarks.{name}", description=doc.splitlines()[0]
        )
        self.parser.add_argument(
            "--quick", action="store_true", help="at most 5 minutes, fewer rounds"
        )
        self.parser.add_argument(
            "--json", type=Path, metavar="FILE", help="also write the figures there"
        )

    def run(
        self,
        measure: Callable[[argparse.Namespace], Found],
        arguments: Sequence[str] | None = None,
    ) -> None:
        """Measure, print and write; exits with 0, 1 (it could not) or 2 (wrong usage).

        Args:
            measure: options -> what it found.
            arguments: of the command line; None: the process's own.
        """
        options = self.parser.parse_args(arguments)
        sys.exit(run_command(self.name, lambda: self._run(measure, options)))

    def _run(
        self, measure: Callable[[argparse.Namespace], Found], options: argparse.Namespace
    ) -> None:
        if options.json and not options.json.absolute().parent.is_dir():
            raise ConfigError(f"--json {options.json}: there is no such folder")
        where = {**machine(), **_software(), "load": os.getloadavg()[0]}
        with ended_by_signals():
            found = measure(options)
        show(found.figures)
        if options.json:
            result = {
                "benchmark": self.name,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "options": _said(options),
                "machine": where,
                "figures": [{**asdict(figure), "met": figure.met} for figure in found.figures],
                **found.more,
            }
            with written_aside(options.json) as aside:
                aside.write_text(json.dumps(result, indent=1) + "\n")


def progress(text: str) -> None:
    """Say what is measured now, beside the figures."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def show(figures: Sequence[Figure]) -> None:
    """Print figures beside their goals."""
    rows = [figure.words() for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, goal in rows:
        print(f"{name:<{widths[0]}}  {value:>{widths[1]}}  {goal}".rstrip())


def _said(options: argparse.Namespace) -> dict[str, str]:
    """Return the options but paths, which say something of this machine only."""
    return {k: str(v) for k, v in vars(options).items() if not isinstance(v, Path)}


def _software() -> dict[str, str]:
    """Return the versions that speed hangs on."""
    packages = {name: version(name) for name in ("torch", "grpcio", "protobuf")}
    return {"sft": __version__, **packages, "kernel": platform.release().partition("-")[0]}


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
    order = list(contenders)
    for number in range(-warm_up, rounds):
        for name in order:
            seconds = contenders[name]()
            if number >= 0:
                found[name].append(seconds)
        order.append(order.pop(0))  # nobody always comes behind the same one
    return found


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median over rounds of the ratio of two contenders in the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
