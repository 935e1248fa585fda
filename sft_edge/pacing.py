"""Into how many micro-batches a batch is cut: a number, or the best of a few that were tried.

More parts hide more of the link and the cloud behind the edge's own work; each costs a little by
itself. Which number is best depends on machines and link, so it is measured: a few steps each, in
turn, at the beginning of a run. It knows no learner and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, linear_regression, median
from typing import Any, NamedTuple

AUTO = "auto"
"""What a person types to have the number found."""

CANDIDATES = (1, 2, 4, 8)

WARM_UP = 2
"""First steps, which do not count: caches are cold, memory is not there yet."""

ROUNDS = 8
"""Steps that each candidate is tried."""

FITS = 10
"""How often line and costs are fitted in turn."""


class Tried(NamedTuple):
    """A step that was measured."""

    parts: int
    """Into how many parts it was cut."""

    tokens: int
    seconds: float


class Pacing:
    """The number of micro-batches of the next step.

    Args:
        count: that number; `AUTO` finds it.
    """

    def __init__(self, count: int | str) -> None:
        self._left = 0 if count != AUTO else WARM_UP + ROUNDS * len(CANDIDATES)
        self.count = CANDIDATES[0] if count == AUTO else int(count)
        self._tried: list[Tried] = []

    @property
    def settled(self) -> bool:
        """Whether the number changes no more."""
        return not self._left

    def state(self) -> dict[str, Any]:
        """Return all that it has learned, as JSON can say it."""
        return {"left": self._left, "count": self.count, "tried": self._tried}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned once."""
        self._left, self.count = state["left"], state["count"]
        self._tried = [Tried(*step) for step in state["tried"]]

    def stepped(self, seconds: float, tokens: int) -> None:
        """Learn from a step that was cut into `count`.

        Args:
            seconds: that it took.
            tokens: that it had, without padding.
        """
        if self.settled:
            return
        self._left -= 1
        if self._left < ROUNDS * len(CANDIDATES):
            self._tried.append(Tried(self.count, tokens, seconds))
        if self._left:
            self.count = CANDIDATES[self._left % len(CANDIDATES)]
        else:
            costs = relative_costs(self._tried)
            self.count = min(costs, key=costs.__getitem__)


def relative_costs(tried: Sequence[Tried]) -> dict[int, float]:
    """Return what each number costs beside the others, whatever batches it happened to get.

    A step is taken to last (fixed + tokens x per token) x cost: the line is fitted to all steps,
    each divided by its cost, and a cost is the median of what its steps took over the line. A step
    that something else held up hardly counts. With batches that differ a thousandfold, fits can
    lead away from each other: the one counts whose steps agree best.
    """
    fit = _costs_over(tried, 0.0, 1.0)
    fits = [fit]
    for _ in range(FITS):
        fits.append(fit := _costs_over(tried, *_line(tried, fit.costs)))
    return min(fits, key=lambda fit: fit.apart).costs


class _Fit(NamedTuple):
    """What is left of the steps when a line is taken out."""

    costs: dict[int, float]
    """Of each number, their mean 1."""

    apart: float
    """How far steps of the same number are from its cost, as a share of it, on average."""


def _costs_over(tried: Sequence[Tried], fixed: float, per_token: float) -> _Fit:
    """Return the costs that a line leaves."""
    over: dict[int, list[float]] = {}
    for step in tried:
        expected = fixed + per_token * step.tokens
        over.setdefault(step.parts, []).append(step.seconds / (expected or 1.0))
    costs = {parts: median(each) for parts, each in over.items()}
    apart = [abs(one / costs[parts] - 1) for parts, each in over.items() for one in each]
    mean = fmean(costs.values())
    return _Fit({parts: cost / mean for parts, cost in costs.items()}, fmean(apart))


def _line(tried: Sequence[Tried], costs: dict[int, float]) -> tuple[float, float]:
    """Return seconds at no tokens and seconds a token, neither below 0, of a step of cost 1."""
    tokens = [step.tokens for step in tried]
    seconds = [step.seconds / costs[step.parts] for step in tried]
    if len(set(tokens)) == 1:
        return fmean(seconds), 0.0
    per_token, fixed = linear_regression(tokens, seconds)
    if per_token < 0:
        return fmean(seconds), 0.0
    if fixed < 0:
        return 0.0, fmean(seconds) / fmean(tokens)
    return fixed, per_token
