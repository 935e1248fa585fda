"""Draws a run of `sft-edge train --unsplit` as one picture: a metric, the loss, the bytes.

    python -m benchmarks.draw_run RUN --to FILE.svg

RUN is a folder with the metrics.json and history.jsonl of a run whose metric is a share, such as
accuracy. The charts and their colours are those of the run's report, for light and dark. The same
run gives the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from sft_common.commandline import OneLineParser, run_command
from sft_common.errors import DataError, first_line
from sft_common.report.charts import (
    WIDTH,
    Curve,
    Lane,
    Segment,
    Titles,
    bar_chart,
    line_chart,
)
from sft_common.report.figures import bytes_said, fewer_said
from sft_common.report.markup import Markup, element, joined
from sft_common.report.metrics import metric_axis, metric_most
from sft_edge.report.pictures import metric_points
from sft_edge.report.story import Story, read_story

HEIGHT, TOP, GAP = 296.0, 46.0, 12.0
"""Units, as those of a chart; how far charts are from the top, and from one another."""

VARIANTS = {"split": 0, "unsplit": 1}
"""Of the history, with their colours."""


def picture(story: Story) -> Markup:
    """Return a run as SVG.

    Raises:
        DataError: it is not finished, or nothing was trained unsplit beside it.
    """
    said, style = _said(story), files("sft_common.report").joinpath("page.css").read_text("utf-8")
    charts = [chart for chart in (_metric(story), _loss(story), _bytes(story)) if chart]
    width = 3 * WIDTH + 4 * GAP
    drawn = element(
        "svg",
        element("title", said),
        element("style", Markup(style)),
        element("rect", width=width, height=HEIGHT, rx=10, fill="var(--card)"),
        element("text", said, x=GAP, y=26, class_="label strong"),
        *(_placed(chart, GAP + n * (WIDTH + GAP)) for n, chart in enumerate(charts)),
        *(_named(each, GAP + 8 + 90 * n) for n, each in enumerate(VARIANTS)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {HEIGHT:.0f}",
        role="img",
    )
    return joined(drawn, Markup("\n"))


def _said(story: Story) -> str:
    """Return what the picture shows, in a line."""
    split, unsplit = story.number("metric", "value"), story.number("unsplit", "value")
    reduction = story.number("bytes", "reduction")
    if split is None or unsplit is None or reduction is None:
        raise DataError(f"run {story.name} has no figures of both; train it with --unsplit")
    return (
        f"{story.fact('model')}, cut {story.fact('cut')} in block {story.fact('split_layer')}: "
        f"{story.metric} {100 * split:.1f} % split, {100 * unsplit:.1f} % in one process, "
        f"{fewer_said(reduction)} bytes than plain split learning"
    )


def _metric(story: Story) -> Markup | None:
    name = str(story.metric)
    return line_chart(
        Titles(key="metric", title=name, text=f"{name} after each epoch"),
        [
            Curve(name=each, points=metric_points(story, name, each), colour=colour)
            for each, colour in VARIANTS.items()
        ],
        x="step",
        y=metric_axis(name),
        most=metric_most(name),
    )


def _loss(story: Story) -> Markup | None:
    return line_chart(
        Titles(key="loss", title="loss", text="Loss of training over the steps"),
        [
            Curve(name=each, points=story.curve("step", "loss", each), colour=colour)
            for each, colour in VARIANTS.items()
        ],
        x="step",
        y="loss of training",
        from_zero=True,
    )


def _bytes(story: Story) -> Markup | None:
    """Return the bytes of a mean step as bars, beside those of plain split learning."""
    steps, bars = story.number("steps"), []
    assert steps, "a finished run has steps"
    for name, prefix, looks in (
        ("bytes a step, split", "", ("up", "down")),
        ("plain split learning", "split_learning_", ("plain", "plain-light")),
    ):
        ways = [(story.number("bytes", f"{prefix}{way}") or 0.0) / steps for way in ("up", "down")]
        parts = [
            Segment(name=way, value=moved, look=look)
            for way, moved, look in zip(("up", "down"), ways, looks, strict=True)
        ]
        bars.append(Lane(name=name, said=bytes_said(sum(ways)), segments=parts))
    text = "Bytes of a mean step, and what plain split learning would send"
    return bar_chart(Titles(key="bytes", title="bytes", text=text), bars)


def _placed(chart: Markup, left: float) -> Markup:
    """Return a chart at its place in the picture; it says itself how high it is."""
    height = float(chart.partition('viewBox="0 0 ')[2].partition('"')[0].split()[1])
    where = f'<svg x="{left:.0f}" y="{TOP:.0f}" width="{WIDTH:.0f}" height="{height:.0f}"'
    return Markup(chart.replace("<svg", where, 1))


def _named(variant: str, left: float) -> Markup:
    """Return an entry of the legend."""
    at = {"x": left, "y": HEIGHT - 22, "width": 14.0, "height": 10.0}
    return joined(
        element("rect", class_=f"bar c{VARIANTS[variant]}", **at),
        element("text", variant, x=left + 20, y=HEIGHT - 13, class_="label"),
    )


def draw(run: Path, target: Path) -> None:
    """Write a run's picture.

    Raises:
        DataError: the run cannot be drawn, or the picture not be written.
    """
    try:
        target.write_text(picture(read_story(run)), encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {target}: {first_line(error)}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (it could not) or 2 (wrong usage)."""
    parser = OneLineParser(
        prog="python -m benchmarks.draw_run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, runs/NAME")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE.svg")
    options: argparse.Namespace = parser.parse_args(arguments)
    sys.exit(run_command("draw_run", lambda: draw(options.run, options.to)))


if __name__ == "__main__":
    main()
