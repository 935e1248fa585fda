"""Where the time of a step went, as lanes: of one run, and of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sft_common.report.charts import Lane, Segment, Titles, lane_chart
from sft_common.report.figures import seconds_said
from sft_common.report.markup import Markup
from sft_common.report.page import card, hidden, legend, soft, table
from sft_edge.report.story import Story

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
