"""Cards of curves over steps, rounds or bytes: losses, metrics. It knows no run's files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sft_common.report.charts import Curve, Titles, line_chart
from sft_common.report.markup import Markup
from sft_common.report.page import card, curve_figures, curve_legend, soft
from sft_common.report.scales import Point, smoothed

_SMOOTH_FROM = 40
"""Points from which on a curve of a loss is drawn as its moving mean, too."""


def curve_card(
    title: str,
    y: str,
    curves: Sequence[Curve],
    text: str,
    *,
    remark: str | None = None,
    key: str | None = None,
    from_zero: bool = False,
    most: float = math.inf,
    x: str = "step",
) -> Markup | None:
    """Return a card with curves, their legend and their figures.

    Args:
        title: of the card.
        y: what the vertical axis says.
        curves: those without points are left out.
        text: for those who do not see it.
        remark: above the picture.
        key: unique on the page; None: the title.
        from_zero: whether the vertical axis begins with 0.
        most: what no point is above.
        x: what the horizontal axis counts.
    """
    there = [curve for curve in curves if curve.points]
    titles = Titles(key=key or title.lower(), title=title, text=text)
    drawn = line_chart(titles, there, x=x, y=y, from_zero=from_zero, most=most)
    if drawn is None:
        return None
    exact = [curve for curve in there if not _has_ground(curve, there)]
    return card(
        title, soft(remark) if remark else None, drawn, curve_legend(there),
        curve_figures(x, exact),
    )  # fmt: skip


def _has_ground(curve: Curve, among: Iterable[Curve]) -> bool:
    """Return whether a curve is the mean of another one, which is drawn below it."""
    return not curve.faint and any(c.faint and c.name == curve.name for c in among)


def with_mean(name: str, points: list[Point], colour: int) -> list[Curve]:
    """Return a curve; many points as the ground for their moving mean."""
    if len(points) < _SMOOTH_FROM:
        return [plain_curve(name, points, colour)]
    mean = smoothed(points, max(2, len(points) // 40))
    ground = Curve(name=name, points=points, colour=colour, faint=True)
    return [ground, plain_curve(name, mean, colour)]


def mean_remark(curves: Iterable[Curve]) -> str | None:
    """Return what is to be said of curves of which some are means."""
    if not any(curve.faint for curve in curves):
        return None
    return "Strong lines of the training are moving means over a twentieth of the run."


def plain_curve(name: str, points: Sequence[Point], colour: int) -> Curve:
    """Return a curve as it is."""
    return Curve(name=name, points=points, colour=colour)
