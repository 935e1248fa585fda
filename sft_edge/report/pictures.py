"""The pictures of a run: its losses, its metric, its bytes, and what is said of them."""

from __future__ import annotations

from sft_common.report.charts import Curve, Lane, Segment, Titles, bar_chart
from sft_common.report.curves import curve_card, mean_remark, plain_curve, with_mean
from sft_common.report.figures import bytes_said, fewer_said
from sft_common.report.markup import Markup
from sft_common.report.metrics import metric_axis, metric_most, on_axis
from sft_common.report.page import card, hidden, legend, soft, table
from sft_common.report.scales import Point, scaled
from sft_edge.report.story import Story

TRAINING, VALIDATION, UNSPLIT, UNSPLIT_VALIDATION = 0, 1, 2, 3
"""Colours."""


def loss_card(story: Story) -> Markup | None:
    """Return losses over steps."""
    curves = [
        *with_mean("training", story.curve("step", "loss"), TRAINING),
        plain_curve("validation", story.curve("evaluation", "loss"), VALIDATION),
        *with_mean("training, unsplit", story.curve("step", "loss", "unsplit"), UNSPLIT),
        plain_curve(
            "validation, unsplit",
            story.curve("evaluation", "loss", "unsplit"),
            UNSPLIT_VALIDATION,
        ),
    ]
    text = "Loss of training and validation over the steps of the run."
    return curve_card("Loss", "loss", curves, text, remark=mean_remark(curves))


def metric_card(story: Story) -> Markup | None:
    """Return the task's metric over steps."""
    name = story.metric
    if name is None:
        return None
    curves = [
        plain_curve("split", metric_points(story, name), VALIDATION),
        plain_curve("unsplit", metric_points(story, name, "unsplit"), UNSPLIT_VALIDATION),
    ]
    text = f"{name} on the validation examples after each evaluation."
    title, most = f"Metric: {name}", metric_most(name)
    return curve_card(title, metric_axis(name), curves, text, key="metric", most=most)


def metric_points(story: Story, name: str, variant: str = "split") -> list[Point]:
    """Return a metric over steps, in the unit of `metric_axis`."""
    return on_axis(name, story.curve("evaluation", "value", variant))


def traffic_card(story: Story) -> Markup | None:
    """Return the bytes of each training step, up and down."""
    if story.fact("edge") == "frozen":  # sends examples, not steps
        return None
    ways = [
        Curve(name=name, points=scaled(story.step_bytes(way), 1e-3), colour=colour)
        for name, way, colour in (("up", "bytes_up", 1), ("down", "bytes_down", 0))
    ]
    text = "Kilobytes that a training step sent up to the cloud and got down from it."
    remark = "Of training steps alone, framing of the connection included."
    return curve_card(
        *("Bytes, step by step", "kB a step", ways, text),
        remark=remark,
        key="traffic",
        from_zero=True,
    )


def volume_card(story: Story) -> Markup | None:
    """Return the bytes of a mean step beside those of plain split learning."""
    steps = story.number("steps")
    bars = [
        bar
        for name, up, down, looks in (
            ("this run", "up", "down", ("up", "down")),
            (
                "plain split learning",
                *("split_learning_up", "split_learning_down"),
                ("plain", "plain-light"),
            ),
        )
        if steps and (bar := _volume(story, name, steps, (up, down), looks))
    ]
    reduction = story.number("bytes", "reduction")
    few = f": {fewer_said(reduction)}" if reduction and reduction > 0 else ""
    text = "Bytes of a mean step of this run, and what plain split learning would send."
    drawn = bar_chart(Titles(key="volume", title="Bytes per step", text=text), bars)
    if drawn is None:
        return None
    entries = (
        *(("up", "up"), ("down", "down")),
        *(("plain", "plain, up"), ("plain-light", "plain, down")),
    )
    rows = [
        [bar.name, *(bytes_said(part.value) for part in bar.segments), bar.said] for bar in bars
    ]
    return card(
        f"Bytes per step{few}",
        soft("All bytes of the run, evaluations included, over its steps."),
        drawn,
        legend(entries[: 2 * len(bars)]),
        hidden("The figures", table(["bytes per step", "up", "down", "both"], rows, "figures")),
    )


def _volume(
    story: Story, name: str, steps: float, ways: tuple[str, str], looks: tuple[str, str]
) -> Lane | None:
    counts = [story.number("bytes", way) for way in ways]
    if None in counts:
        return None
    each = [(count or 0.0) / steps for count in counts]
    segments = [
        Segment(name=way, value=value, look=look)
        for way, value, look in zip(("up", "down"), each, looks, strict=True)
    ]
    return Lane(name=name, said=bytes_said(sum(each)), segments=segments)
