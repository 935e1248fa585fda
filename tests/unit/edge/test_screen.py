"""What a person sees."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sft_edge.screen import Bar, PlainLines, Silent, make_screen, print_table

METRICS = {
    "task": "demo",
    "model": "m",
    "cut": "sft",
    "split_layer": 5,
    "rank": 8,
    "metric": {"name": "accuracy", "value": 0.9125},
    "metrics": {"f1": 0.5, "accuracy": 0.9125},
    "unsplit": {"name": "accuracy", "value": 0.925},
    "bytes": {
        "up": 1_234_567,
        "down": 1_000_000,
        "split_learning_up": 59_000_000,
        "split_learning_down": 48_000_000,
        "reduction": 47.9,
    },
    "seconds": {"total": 60.0, "edge": 40.0, "wire": 5.0, "cloud": 15.0},
}


def test_quiet_is_silent_and_a_pipe_gets_plain_lines() -> None:
    assert isinstance(make_screen("x", 1, quiet=True), Silent)
    assert isinstance(make_screen("x", 1, quiet=False), PlainLines)


def test_plain_lines_are_about_twenty(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainLines(Console(stderr=True), "split", 1000, "step") as screen:
        for step in range(1, 1001):
            screen.advance(step, 0.5, 27.0)
        screen.evaluated("epoch 1: accuracy 90.00 %", "accuracy 90.00 %")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("split step 50/1000 loss 0.5000 ")
    assert lines[0].endswith(" steps/s 27.0 kB/step")
    assert lines[-1] == "epoch 1: accuracy 90.00 %"


def test_what_has_no_loss_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as examples on their way to a cloud that will train alone."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160)
    plain = PlainLines(Console(stderr=True), "sending", 3, "batch")
    with plain, Bar(console, "sending", 3, "batch") as bar:
        plain.advance(3, None, 104.9)
        bar.advance(3, None, 104.9)
    line = capsys.readouterr().err
    assert line.startswith("sending batch 3/3 ") and line.endswith(" batches/s 104.9 kB/batch\n")
    assert "104.9 kB/batch" in out.getvalue()
    assert "loss" not in line + out.getvalue() and "nan" not in line + out.getvalue()


def test_the_bar_shows_loss_metric_rate_and_volume() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160)
    with Bar(console, "split", 10, "step") as screen:
        screen.advance(9, 0.1234, 27.5)
        screen.evaluated("epoch 1: accuracy 91.00 %", "accuracy 91.00 %")
        screen.advance(10, 0.1111, 27.5)
    shown = out.getvalue()
    for part in ("10/10", "loss 0.1111", "accuracy 91.00 %", "steps/s", "27.5 kB/step"):
        assert part in shown


def test_brackets_in_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({**METRICS, "model": "x[bold]y"}, "runs/[/x]")
    PlainLines(Console(stderr=True), "split", 1, "step").say("a [red]b")
    shown = capsys.readouterr()
    assert "x[bold]y" in shown.out and "runs/[/x]" in shown.out
    assert shown.err == "a [red]b\n"


def test_the_table_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(METRICS, "runs/one")
    shown = capsys.readouterr().out
    for part in (
        "91.25 %",
        "92.50 %",
        "1.23 MB",
        "59.00 MB",
        "47.9 times",
        "runs/one",
        "seconds on the wire",
        "unsplit",
    ):
        assert part in shown, part
