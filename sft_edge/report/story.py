"""What a run's folder says of it, whatever is missing there. It knows no drawing."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_common.errors import ConfigError, first_line
from sft_common.report.scales import Point, is_figure
from sft_edge.run_files import HISTORY_FILE, JOB_FILE, METRICS_FILE, START_FILE

Facts = Mapping[str, Any]

_FILES = (METRICS_FILE, HISTORY_FILE, JOB_FILE, START_FILE)
"""Any of them makes a folder that of a run."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is known of a run. Files of older versions and unfinished runs lack some of it."""

    name: str
    """Of the folder."""

    path: Path
    metrics: Facts
    """What metrics.json says; empty for a run that has not come to its end."""

    job: Facts
    """What job.json says."""

    start: Facts
    """What run.json says while the run goes on."""

    history: tuple[Facts, ...]
    """The lines of history.jsonl."""

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return bool(self.metrics)

    @property
    def setting(self) -> Facts:
        """What is known of how it was asked to train."""
        return self.metrics or _facts(self.job.get("known")) or _facts(self.start.get("options"))

    def fact(self, *keys: str) -> Any:
        """Return what stands under keys within keys of metrics.json or the setting; None if not."""
        found: Any = self.setting
        for key in keys:
            found = _facts(found).get(key)
        return found

    def number(self, *keys: str) -> float | None:
        """Return a number as `fact` finds it; None if there is none."""
        found = self.fact(*keys)
        return float(found) if is_figure(found) else None

    @property
    def metric(self) -> str | None:
        """The name of the task's metric."""
        named = self.fact("metric", "name")
        for line in reversed(self.history):
            named = named or line.get("metric")
        return named if isinstance(named, str) else None

    @property
    def command(self) -> tuple[str, ...]:
        """The command that began it, an option with its values apiece, as a shell takes them.

        Empty if an older version did not keep it.
        """
        for facts in (self.job, self.start):
            arguments = facts.get("arguments")
            if isinstance(arguments, list) and arguments:
                return tuple(_options(["sft-edge", "train", *map(str, arguments)]))
        return ()

    def curve(self, kind: str, field: str, variant: str = "split") -> list[Point]:
        """Return (step, value) of a field of the history, from left to right.

        Args:
            kind: "step" or "evaluation".
            field: of the line.
            variant: "split" or "unsplit".
        """
        lines = (line for line in self.history if _is(line, kind, variant))
        points = [(line.get("step"), line.get(field)) for line in lines]
        return sorted((float(x), float(y)) for x, y in points if is_figure(x) and is_figure(y))

    def step_bytes(self, way: str) -> list[Point]:
        """Return (step, bytes of one training step); evaluations are not among them.

        Args:
            way: "bytes_up" or "bytes_down".
        """
        lines = [
            line
            for line in self.history
            if line.get("variant") == "split"
            and is_figure(line.get(way))
            and is_figure(line.get("step"))
        ]
        points = []
        for before, line in zip(lines, lines[1:], strict=False):
            steps, moved = line["step"] - before["step"], line[way] - before[way]
            if line.get("kind") == "step" and steps > 0 and moved > 0:
                points.append((float(line["step"]), moved / steps))
        return sorted(points)


def read_story(path: Path) -> Story:
    """Return what a run's folder says.

    Raises:
        ConfigError: it is not the folder of a run, or a file there cannot be read.
    """
    if not path.is_dir():
        raise ConfigError(f"there is no run {path}; give the folder of a run, runs/NAME")
    if not any((path / name).exists() for name in _FILES):
        raise ConfigError(
            f"{path} is not the folder of a run: none of {', '.join(_FILES)} is there; "
            "`sft-edge train` prints the folder at its end"
        )
    return Story(
        name=path.resolve().name,
        path=path,
        metrics=_read(path / METRICS_FILE),
        job=_read(path / JOB_FILE),
        start=_read(path / START_FILE),
        history=tuple(_lines(path / HISTORY_FILE)),
    )


def _read(path: Path) -> Facts:
    """Return the object in a file; an empty one if there is no such file."""
    try:
        facts = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {first_line(error)}") from error
    if not isinstance(facts, dict):
        raise ConfigError(f"cannot read {path}: it holds a {type(facts).__name__}, not an object")
    return facts


def _lines(path: Path) -> list[Facts]:
    """Return the lines of a history; one that was cut off as it was written is left out."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {first_line(error)}") from error
    return [facts for line in text.split("\n") if (facts := _line(line))]


def _line(text: str) -> Facts:
    try:
        return _facts(json.loads(text))
    except ValueError:
        return {}


def _facts(value: Any) -> Facts:
    return value if isinstance(value, dict) else {}


def _options(words: Sequence[str]) -> Iterator[str]:
    """Yield words of a command, each option with what belongs to it."""
    begins = [0, *(n for n, word in enumerate(words) if word.startswith("--")), len(words)]
    for begin, end in itertools.pairwise(begins):
        yield shlex.join(words[begin:end])


def _is(line: Facts, kind: str, variant: str) -> bool:
    return line.get("kind") == kind and line.get("variant") == variant
