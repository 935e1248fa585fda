"""The pictures of a run: which curves, bars and lanes there are, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sft_edge.report.charts import (
    Curve,
    Lane,
    Segment,
    Titles,
    bar_chart,
    lane_chart,
    line_chart,
)
from sft_edge.report.figures import bytes_said, seconds_said, times_said
from sft_edge.report.markup import Markup
from sft_edge.report.page import (
    card,
    curve_figures,
    curve_legend,
    hidden,
    legend,
    scaled,
    soft,
    table,
)
from sft_edge.report.scales import Point, smoothed
from sft_edge.report.story import Story

_SMOOTH_FROM = 40
"""Points from which on a curve of a loss is drawn as its moving mean, too."""

TRAINING, VALIDATION, UNSPLIT, UNSPLIT_VALIDATION = 0, 1, 2, 3
"""Colours."""

_LANES = {
    "edge": (
        ("edge", "computes", "edge"),
        ("encode", "writes messages", "codec"),
        ("decode", "reads messages", "codec-back"),
        ("idle", "idle", "idle"),
    ),
    "link": (("up", "up", "up"), ("down", "down", "down")),
    "cloud": (
        ("queue", "waits for its device", "queue"),
        ("cloud", "computes", "cloud"),
        ("cloud_codec", "reads and writes messages", "cloud-codec"),
    ),
}
"""Parts of `breakdown`: the key, what it means, and its class."""

WAITS = (
    ("edge", "edge: its own work", "edge"),
    ("wire", "waiting for the link", "up"),
    ("cloud", "waiting for the cloud", "cloud"),
)
"""Parts of `seconds`."""

_FROZEN_WAITS = (
    ("edge", "edge: sends every example once", "edge"),
    ("wire", "waiting for the link meanwhile", "up"),
    ("cloud", "cloud: trains alone", "cloud"),
)


def loss_card(story: Story) -> Markup | None:
    """Return losses over steps."""
    curves = [
        *with_mean("training", story.curve("step", "loss"), TRAINING),
        _curve("validation", story.curve("evaluation", "loss"), VALIDATION),
        *with_mean("training, unsplit", story.curve("step", "loss", "unsplit"), UNSPLIT),
        _curve(
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
        _curve("split", metric_points(story, name), VALIDATION),
        _curve("unsplit", metric_points(story, name, "unsplit"), UNSPLIT_VALIDATION),
    ]
    text = f"{name} on the validation examples after each evaluation."
    return curve_card(f"Metric: {name}", metric_axis(name), curves, text, key="metric")


def metric_axis(name: str) -> str:
    """Return what an axis of a metric says."""
    return name if name.startswith("perplexity") else f"{name}, %"


def metric_points(story: Story, name: str, variant: str = "split") -> list[Point]:
    """Return a metric over steps, in the unit of `metric_axis`."""
    points = story.curve("evaluation", "value", variant)
    return points if name.startswith("perplexity") else scaled(points, 100)


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
    few = f": {times_said(reduction)} fewer" if reduction else ""
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


def time_card(story: Story) -> Markup | None:
    """Return where the time of a mean step went."""
    steps = story.number("steps") or 0.0
    lanes = step_lanes(story, steps) or waiting_lanes([story])
    drawn = time_chart(lanes, "Edge, link and cloud, and how long each was at what.")
    if drawn is None:
        return None
    return card(
        "Where a step's time went",
        soft(_waiting(story, steps)),
        drawn,
        legend(
            (part.look, f"{part.name} {seconds_said(part.value)}")
            for lane in lanes
            for part in lane.segments
        ),
        time_figures(lanes),
    )


def _waiting(story: Story, steps: float) -> str:
    wire, cloud = story.number("seconds", "wire"), story.number("seconds", "cloud")
    mean = "A mean step, evaluations included."
    if story.fact("edge") == "frozen":
        return "The time of the whole run, over its steps."
    if wire is None or cloud is None or not steps:
        return mean
    return (
        f"{mean} The edge was idle for {seconds_said(wire / steps)} because of the link and "
        f"{seconds_said(cloud / steps)} because of the cloud; what they did while it worked "
        "cost no time."
    )


def step_lanes(story: Story, steps: float) -> list[Lane]:
    """Return what edge, link and cloud did in a mean step, in seconds; none if not known."""
    if not steps:
        return []
    lanes = []
    for place, parts in _LANES.items():
        values = [story.number("breakdown", key) for key, _, _ in parts]
        if None in values:
            return []
        segments = [
            Segment(name=f"{place}: {name}", value=max(0.0, value or 0.0) / steps, look=look)
            for value, (_, name, look) in zip(values, parts, strict=True)
        ]
        said = seconds_said(sum(segment.value for segment in segments))
        lanes.append(Lane(name=place, said=said, segments=segments))
    return lanes


def waiting_lanes(stories: Iterable[Story], names: Sequence[str] = ()) -> list[Lane]:
    """Return what a mean step of each run was spent on, in seconds; runs without are left out."""
    lanes = []
    for number, story in enumerate(stories):
        parts = _FROZEN_WAITS if story.fact("edge") == "frozen" and not names else WAITS
        values = [story.number("seconds", key) for key, _, _ in parts]
        steps = story.number("steps")
        if None in values or not steps:
            continue
        segments = [
            Segment(name=name, value=max(0.0, value or 0.0) / steps, look=look)
            for value, (_, name, look) in zip(values, parts, strict=True)
        ]
        said = seconds_said(sum(segment.value for segment in segments))
        name = names[number] if names else "a step"
        lanes.append(Lane(name=name, said=said, segments=segments))
    return lanes


def time_chart(lanes: Sequence[Lane], text: str) -> Markup | None:
    """Return lanes of seconds, in milliseconds where they are short."""
    longest = max((lane.length for lane in lanes), default=0.0)
    factor, unit = (1e3, "milliseconds") if longest < 2 else (1.0, "seconds")
    in_unit = [
        Lane(
            name=lane.name,
            said=lane.said,
            segments=[
                Segment(name=part.name, value=part.value * factor, look=part.look)
                for part in lane.segments
            ],
        )
        for lane in lanes
    ]
    titles = Titles(key="time", title="Where a step's time went", text=text)
    return lane_chart(
        titles, in_unit, unit=f"{unit} a step", said=lambda value: seconds_said(value / factor)
    )


def time_figures(lanes: Sequence[Lane]) -> Markup:
    """Return the figures of lanes, hidden."""
    rows = [
        [lane.name if len(lanes) == 1 else f"{lane.name} · {part.name}", seconds_said(part.value)]
        for lane in lanes
        for part in lane.segments
    ]
    return hidden("The figures", table(["part", "a step"], rows, "figures"))


def curve_card(
    title: str,
    y: str,
    curves: Sequence[Curve],
    text: str,
    *,
    remark: str | None = None,
    key: str | None = None,
    from_zero: bool = False,
) -> Markup | None:
    """Return a card with curves over steps, their legend and their figures.

    Args:
        title: of the card.
        y: what the vertical axis says.
        curves: those without points are left out.
        text: for those who do not see it.
        remark: above the picture.
        key: unique on the page; None: the title.
        from_zero: whether the vertical axis begins with 0.
    """
    there = [curve for curve in curves if curve.points]
    titles = Titles(key=key or title.lower(), title=title, text=text)
    drawn = line_chart(titles, there, x="step", y=y, from_zero=from_zero)
    if drawn is None:
        return None
    exact = [curve for curve in there if not _has_ground(curve, there)]
    return card(
        title, soft(remark) if remark else None, drawn, curve_legend(there),
        curve_figures("step", exact),
    )  # fmt: skip


def _has_ground(curve: Curve, among: Iterable[Curve]) -> bool:
    """Return whether a curve is the mean of another one, which is drawn below it."""
    return not curve.faint and any(c.faint and c.name == curve.name for c in among)


def with_mean(name: str, points: list[Point], colour: int) -> list[Curve]:
    """Return a curve; many points as the ground for their moving mean."""
    if len(points) < _SMOOTH_FROM:
        return [_curve(name, points, colour)]
    mean = smoothed(points, max(2, len(points) // 40))
    ground = Curve(name=name, points=points, colour=colour, faint=True)
    return [ground, _curve(name, mean, colour)]


def mean_remark(curves: Iterable[Curve]) -> str | None:
    """Return what is to be said of curves of which some are means."""
    if not any(curve.faint for curve in curves):
        return None
    return "Strong lines of the training are moving means over a twentieth of the run."


def _curve(name: str, points: Sequence[Point], colour: int) -> Curve:
    return Curve(name=name, points=points, colour=colour)
