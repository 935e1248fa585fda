"""Curves, bars and lanes as SVG of a phone's width. It knows numbers and names, but no run.

Colours are classes of the page's style: `c0` to `c7`, and those that a segment names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sft_common.report.figures import place_said
from sft_common.report.markup import Markup, element, joined, place
from sft_common.report.scales import Point, Scale, thinned, tick_labels, ticks

WIDTH = 320.0
"""Units of a picture: the CSS pixels that a phone leaves it, so that text there keeps its size."""

_HEIGHT, _TOP, _BOTTOM, _RIGHT = 216.0, 26.0, 36.0, 8.0
_LETTER = 6.6
"""Width of a letter, at most."""

_COLUMNS = 360
"""To which long curves are thinned; the widest screen shows hardly more."""

_DOTS = 24
"""Curves of so few points show each of them."""

COLOURS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    """From left to right."""

    colour: int
    """0, 1, 2, …; from `COLOURS` on they come again, dashed."""

    faint: bool = False
    """Whether it is the ground for another line of the same colour."""

    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of a lane."""

    name: str
    value: float
    look: str
    """Class of the page's style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A row of segments, one behind the other."""

    name: str
    said: str
    """What its right end says."""

    segments: Sequence[Segment]

    @property
    def length(self) -> float:
        """Where it ends."""
        return sum(segment.value for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Titles:
    """What a picture is called, to those who see it and those who hear it."""

    key: str
    """Unique on the page."""

    title: str
    text: str
    """One sentence for those who do not see it."""


def look_of(curve: Curve) -> str:
    """Return the classes of a curve."""
    dashed = " dashed" if curve.dashed or (curve.colour // COLOURS) % 2 else ""
    return f"c{curve.colour % COLOURS}{' faint' if curve.faint else ''}{dashed}"


def line_chart(
    titles: Titles,
    curves: Sequence[Curve],
    *,
    x: str,
    y: str,
    from_zero: bool = False,
    most: float = math.inf,
) -> Markup | None:
    """Return a chart of curves; None if there is not one point to draw.

    Args:
        titles: of the picture.
        curves: in the order of drawing.
        x: what the horizontal axis counts, from 0.
        y: what the vertical axis measures, with its unit.
        from_zero: whether the vertical axis begins with 0 even if no point lies there.
        most: what no point can be above, so that no tick needs to be.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        return None
    heights = [height for _, height in points] + [0.0] * from_zero
    rows = ticks(min(heights), max(heights))
    if max(heights) <= most:
        rows = [row for row in rows if row <= most * (1 + 1e-9)]
    labels = tick_labels(rows)
    left = 8 + max(map(len, labels)) * _LETTER
    low, high = min(0.0, *(x for x, _ in points)), max(1.0, *(x for x, _ in points))
    across = Scale(low, high, left + 4, WIDTH - _RIGHT - 4)
    down = Scale(rows[0], rows[-1], _HEIGHT - _BOTTOM, _TOP)
    return _picture(
        titles,
        _HEIGHT,
        element("text", y, x=4, y=13, class_="axis"),
        *(_row(down(row), label, left) for row, label in zip(rows, labels, strict=True)),
        _columns(across, x),
        *(_drawn(curve, across, down) for curve in curves if curve.points),
    )


def lane_chart(
    titles: Titles, lanes: Sequence[Lane], *, unit: str, said: Callable[[float], str]
) -> Markup | None:
    """Return lanes under one another, on one axis from 0; None if there is nothing in them.

    Args:
        titles: of the picture.
        lanes: from top to bottom.
        unit: what the axis measures.
        said: how a segment's value is written.
    """
    longest = max((lane.length for lane in lanes), default=0.0)
    if longest <= 0:
        return None
    row, bar, bottom = 42.0, 16.0, 36.0
    height = len(lanes) * row + bottom
    marks = ticks(0, longest, 4)
    across = Scale(0, marks[-1], 4, WIDTH - _RIGHT - 12)
    parts = [_column(across(mark), label, 4, height - bottom) for mark, label in _labelled(marks)]
    for number, lane in enumerate(lanes):
        parts.append(_lane(lane, across, number * row, bar, said))
    parts.append(_axis_title(unit, height))
    return _picture(titles, height, *parts)


def bar_chart(titles: Titles, bars: Sequence[Lane]) -> Markup | None:
    """Return lanes as bars without an axis: what each says at its end is the figure."""
    longest = max((bar.length for bar in bars), default=0.0)
    if longest <= 0:
        return None
    row = 42.0
    across = Scale(0, longest, 4, WIDTH - _RIGHT)
    drawn = (_lane(bar, across, n * row, 16.0, lambda _: "") for n, bar in enumerate(bars))
    return _picture(titles, len(bars) * row + 4, *drawn)


def _picture(titles: Titles, height: float, *parts: Markup) -> Markup:
    title, text = f"{titles.key}-title", f"{titles.key}-text"
    return element(
        "svg",
        element("title", titles.title, id=title),
        element("desc", titles.text, id=text),
        *parts,
        viewBox=f"0 0 {place(WIDTH)} {place(height)}",
        role="img",
        aria_labelledby=f"{title} {text}",
    )


def _row(y: float, label: str, left: float) -> Markup:
    return joined(
        element("line", x1=left, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"),
        element("text", label, x=left - 4, y=y + 4, class_="tick end"),
    )


def _columns(across: Scale, title: str) -> Markup:
    """Return the ticks below a chart, whole numbers that lie within it, and its title."""
    marks = [mark for mark in ticks(across.low, across.high, 6) if mark == round(mark)]
    if len(marks) < 2:
        marks = [across.low, across.high]
    parts = [
        _column(across(mark), label, _TOP, _HEIGHT - _BOTTOM)
        for mark, label in _labelled(marks)
        if across.low <= mark <= across.high
    ]
    return joined(*parts, _axis_title(title, _HEIGHT))


def _labelled(marks: Sequence[float]) -> list[tuple[float, str]]:
    return list(zip(marks, tick_labels(marks), strict=True))


def _column(x: float, label: str, top: float, bottom: float) -> Markup:
    width = len(label) * _LETTER / 2
    at = min(max(x, width), WIDTH - width)
    return joined(
        element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"),
        element("text", label, x=at, y=bottom + 14, class_="tick middle"),
    )


def _axis_title(title: str, height: float) -> Markup:
    return element("text", title, x=WIDTH - _RIGHT, y=height - 5, class_="axis end")


def _drawn(curve: Curve, across: Scale, down: Scale) -> Markup:
    look = look_of(curve)
    points = [(across(x), down(y)) for x, y in thinned(curve.points, _COLUMNS)]
    way = "L".join(f"{place(x)} {place(y)}" for x, y in points)
    parts = [element("path", d=f"M{way}", class_=f"curve {look}")] if len(points) > 1 else []
    if len(points) <= _DOTS and (not curve.faint or len(points) == 1):
        for (x, y), (at, value) in zip(points, curve.points, strict=True):
            tip = element("title", f"{curve.name}: {value:.5g} at {place_said(at)}")
            parts.append(element("circle", tip, cx=x, cy=y, r=3, class_=f"dot {look}"))
    return joined(*parts)


def _lane(
    lane: Lane, across: Scale, top: float, height: float, said: Callable[[float], str]
) -> Markup:
    room = int((WIDTH - 24) / _LETTER) - len(lane.said)
    name = lane.name if len(lane.name) <= room else lane.name[: max(1, room - 1)] + "…"
    parts = [
        element("text", name, x=4, y=top + 15, class_="label"),
        element("text", lane.said, x=WIDTH - _RIGHT, y=top + 15, class_="label end strong"),
    ]
    ends = itertools.accumulate((segment.value for segment in lane.segments), initial=0.0)
    for segment, (begin, end) in zip(lane.segments, itertools.pairwise(ends), strict=True):
        if end > begin:
            tip = " ".join(filter(None, (segment.name, said(segment.value))))
            width = max(across(end) - across(begin), 1.5)
            shape = {"x": across(begin), "y": top + 21, "width": width, "height": height}
            parts.append(
                element("rect", element("title", tip), class_=f"bar {segment.look}", **shape)
            )
    return joined(*parts)
