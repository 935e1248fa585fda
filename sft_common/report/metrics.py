"""Metrics as people read them: per cent, or the plain number of a perplexity. It computes none."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sft_common.report.scales import Point, scaled


def shown(name: str, value: float) -> str:
    """Return a metric as people read it: per cent, or the plain number of a perplexity."""
    return f"{value:,.3f}" if _is_plain(name) else f"{100 * value:.2f} %"


def metric_axis(name: str) -> str:
    """Return what an axis of a metric says."""
    return name if _is_plain(name) else f"{name}, %"


def metric_most(name: str) -> float:
    """Return what a metric cannot be above, in the unit of `metric_axis`."""
    return math.inf if _is_plain(name) else 100.0


def on_axis(name: str, points: Iterable[Point]) -> list[Point]:
    """Return points of a metric in the unit of `metric_axis`."""
    return scaled(points, 1 if _is_plain(name) else 100)


def _is_plain(name: str) -> bool:
    return name.startswith("perplexity")
