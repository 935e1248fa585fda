"""From numbers to places along an axis, and the numbers written there. It knows no drawing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

Point = tuple[float, float]

HUGE = 1e280
"""What is larger is no figure of a run; far below the last float, so that all sums are finite."""

_BITS = 60

_SAME = 1e-9
"""Spans of less than this share of their numbers are rounding."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps the numbers from `low` to `high` to the places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, number: float) -> float:
        """Return the place of a number."""
        share = (number - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def is_figure(value: object) -> TypeGuard[float]:
    """Return whether a value is a number that can be drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -HUGE <= value <= HUGE  # false for NaN


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers that cover `low` to `high`, at least two.

    The step is 1, 2 or 5 times a power of ten. A span that is none is widened.
    """
    low, high = _widened(low, high)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.9)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [number * step for number in range(first, last + 1)]


def _widened(low: float, high: float) -> Point:
    size = max(abs(low), abs(high))
    if high - low > max(size * _SAME, 1e-290):
        return low, high
    room = size / 10 if size > 1e-280 else 0.5
    return low - room, high + room


def tick_labels(numbers: Sequence[float]) -> list[str]:
    """Return how ticks are written: short, and each with as many digits as the others."""
    step, largest = numbers[1] - numbers[0], max(map(abs, numbers))
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= 10 * unit and largest < 1e4 * unit:
            return [_digits(number / unit, step / unit) + name for number in numbers]
    if largest >= 1e4 or largest < 1e-4:
        return [f"{number:.3g}" for number in numbers]
    return [_digits(number, step) for number in numbers]


def _digits(number: float, step: float) -> str:
    behind = max(0, -math.floor(math.log10(step) + 1e-6))
    return f"{number + 0.0:.{min(behind, 6)}f}"


def thinned(points: Sequence[Point], columns: int) -> list[Point]:
    """Return points that draw as all of them do: the first, last, lowest and highest of a column.

    Args:
        points: from left to right.
        columns: how many there are from the first to the last.
    """
    if len(points) <= 4 * columns:
        return list(points)
    left, span = points[0][0], points[-1][0] - points[0][0]
    found: list[Point] = []
    column: list[Point] = []
    number = 0
    for point in points:
        here = min(columns - 1, int((point[0] - left) / span * columns)) if span > 0 else 0
        if here != number:
            found += _extremes(column)
            column, number = [], here
        column.append(point)
    return found + _extremes(column)


def _extremes(column: Sequence[Point]) -> list[Point]:
    if not column:
        return []
    places = {
        0,
        len(column) - 1,
        min(range(len(column)), key=lambda n: column[n][1]),
        max(range(len(column)), key=lambda n: column[n][1]),
    }
    return [column[n] for n in sorted(places)]


def scaled(points: Iterable[Point], factor: float) -> list[Point]:
    """Return points with their heights in another unit."""
    return [(at, height * factor) for at, height in points]


def smoothed(points: Sequence[Point], reach: int) -> list[Point]:
    """Return points with the mean of up to `reach` neighbours on either side as their height.

    Sums are whole numbers of 2 to the -60: one huge height must not swallow those behind it.
    """
    exact = (int(math.ldexp(height, _BITS)) for _, height in points)
    sums = list(itertools.accumulate(exact, initial=0))
    found = []
    for n, (at, _) in enumerate(points):
        near = min(reach, n, len(points) - 1 - n)
        found.append((at, (sums[n + near + 1] - sums[n - near]) / ((2 * near + 1) << _BITS)))
    return found
