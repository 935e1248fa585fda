"""What a person sees: a progress bar or plain lines while it runs, a table at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sft_common.report.metrics import shown

PLAIN_LINES = 20
"""About so many progress lines a run prints when it has no terminal."""


class Screen(Protocol):
    """Shows how one training goes; use as a context."""

    def __enter__(self) -> Screen: ...

    def __exit__(self, *_: object) -> None: ...

    def say(self, line: str) -> None:
        """Show one line."""

    def advance(self, step: int, loss: float | None, kilobytes: float | None) -> None:
        """Show that a step is done; None for what it has not got."""

    def evaluated(self, line: str, metric: str) -> None:
        """Show an evaluation."""


def make_screen(title: str, total: int, *, quiet: bool, unit: str = "step") -> Screen:
    """Return the screen that fits: silent, a bar on a terminal, or plain lines.

    Args:
        title: what goes on.
        total: how many units there are.
        quiet: whether to show nothing.
        unit: what is counted.
    """
    console = Console(stderr=True)
    if quiet:
        return Silent()
    if console.is_terminal:
        return Bar(console, title, total, unit)
    return PlainLines(console, title, total, unit)


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        """Show nothing."""

    def advance(self, step: int, loss: float | None, kilobytes: float | None) -> None:
        """Show nothing."""

    def evaluated(self, line: str, metric: str) -> None:
        """Show nothing."""


class Bar:
    """A progress bar with loss, metric, steps/s and kB/step."""

    def __init__(self, console: Console, title: str, total: int, unit: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[loss]}  {task.fields[metric]}"),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._title, self._total, self._unit = title, total, unit
        self._task: TaskID | None = None
        self._begin = time.perf_counter()

    def __enter__(self) -> Bar:
        self._progress.start()
        self._task = self._progress.add_task(
            self._title, total=self._total, loss="", metric="", pace=""
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Show one line above the bar."""
        self._progress.console.print(line, highlight=False, markup=False)

    def advance(self, step: int, loss: float | None, kilobytes: float | None) -> None:
        """Move the bar."""
        assert self._task is not None
        self._progress.update(
            self._task,
            completed=step,
            loss=_loss(loss),
            pace=_pace(step, self._begin, kilobytes, self._unit),
        )

    def evaluated(self, line: str, metric: str) -> None:
        """Show the metric in the bar and the line above it."""
        assert self._task is not None
        self._progress.update(self._task, metric=metric)
        self.say(line)


class PlainLines:
    """Some twenty lines a run, for logs and pipes."""

    def __init__(self, console: Console, title: str, total: int, unit: str) -> None:
        self._console, self._title, self._total, self._unit = console, title, total, unit
        self._every = max(1, total // PLAIN_LINES)
        self._begin = time.perf_counter()

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def advance(self, step: int, loss: float | None, kilobytes: float | None) -> None:
        """Print a line now and then."""
        if step % self._every and step != self._total:
            return
        words = (
            f"{self._title} {self._unit} {step}/{self._total}",
            _loss(loss),
            _pace(step, self._begin, kilobytes, self._unit),
        )
        self.say(" ".join(filter(None, words)))

    def evaluated(self, line: str, metric: str) -> None:
        """Print the evaluation."""
        self.say(line)


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"loss {loss:.4f}"


def _pace(done: int, begin: float, kilobytes: float | None, unit: str) -> str:
    plural = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
    rate = f"{done / (time.perf_counter() - begin):.2f} {plural}/s"
    return rate if kilobytes is None else f"{rate} {kilobytes:.1f} kB/{unit}"


def print_table(metrics: dict[str, Any], folder: str, report: Path | None = None) -> None:
    """Print the outcome of a run on standard output, and where its folder and its report are."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in _rows(metrics):
        table.add_row(name, value)
    console = Console()
    console.print(Text(_title(metrics)), soft_wrap=True)
    console.print(table)
    places = [f"everything is in {folder}"]
    if report is not None:
        places.append(f"pictures of it are in {report}")
    for line in places:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _title(metrics: dict[str, Any]) -> str:
    rank = "" if metrics["rank"] is None else f", rank {metrics['rank']}"
    return (
        f"{metrics['task']}: {metrics['model']}, cut {metrics['cut']} "
        f"in block {metrics['split_layer']}{rank}"
    )


def _rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    moved, seconds = metrics["bytes"], metrics["seconds"]
    rows = [(f"{name}, split", shown(name, value)) for name, value in _in_order(metrics)]
    if metrics["unsplit"]:
        name, value = metrics["unsplit"]["name"], metrics["unsplit"]["value"]
        rows.append((f"{name}, same model unsplit in one process", shown(name, value)))
    return [
        *rows,
        ("bytes sent edge to cloud", _bytes(moved["up"])),
        ("bytes sent cloud to edge", _bytes(moved["down"])),
        ("plain split learning, edge to cloud", _bytes(moved["split_learning_up"])),
        ("plain split learning, cloud to edge", _bytes(moved["split_learning_down"])),
        ("reduction", f"{moved['reduction']:.1f} times"),
        ("seconds on the edge", f"{seconds['edge']:.1f}"),
        ("seconds on the wire", f"{seconds['wire']:.1f}"),
        ("seconds on the cloud", f"{seconds['cloud']:.1f}"),
        ("seconds in total", f"{seconds['total']:.1f}"),
    ]


def _in_order(metrics: dict[str, Any]) -> list[tuple[str, float]]:
    """Return all metrics of the split model, the task's own first."""
    first = metrics["metric"]["name"]
    return sorted(metrics["metrics"].items(), key=lambda item: item[0] != first)


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
