"""What a cut is known to cost in accuracy: the runs of benchmarks/results, and what they bound.

A plan is taken to lose no more than the most benign run that was harder: the same cut, no deeper in
the model, no larger share of its width, numbers no finer. One small model was measured; that depth
and share carry over to others is an assumption, which docs/plan.md says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

FINENESS = ("int4", "int8", "bfloat16", "float16", "float32")
"""Encodings, the coarsest first."""

ALL = 100.0
"""Points that there are to lose."""

NOT_LESS = 5e-4
"""Shares and depths that differ by less are the same: they are rounded."""


class Evidence(NamedTuple):
    """One cut of one task, measured."""

    task: str
    cut: str
    depth: float
    """Split layer over blocks."""

    share: float
    """Rank over hidden width."""

    encodings: tuple[str, str]
    """Of activations and of their gradients."""

    healed: bool
    gap: float
    """Points of the task's metric beside uncut; below 0 is a loss."""

    seeds: int
    """Over how many the gap is a mean."""

    @property
    def loss(self) -> float:
        """Points lost; a gain is none."""
        return max(0.0, -self.gap)


class Risk(NamedTuple):
    """What is known of a plan's accuracy."""

    points: float | None
    """Points that it is known to lose at most; None: not known."""

    tasks: tuple[str, ...]
    """The tasks that say so."""

    @property
    def at_most(self) -> float:
        """Points that it may lose; where nothing is known, all that there are."""
        return ALL if self.points is None else self.points

    def within(self, most: float) -> bool:
        """Return whether it loses no more, as far as is known."""
        return self.at_most <= most


@cache
def known() -> tuple[Evidence, ...]:
    """Return all that was measured."""
    text = files("sft_edge.planner").joinpath("evidence.json").read_text("utf-8")
    return tuple(
        Evidence(**{**entry, "encodings": tuple(entry["encodings"])}) for entry in json.loads(text)
    )


def risk_of(
    cut: str,
    depth: float,
    share: float,
    encoding: str,
    *,
    healed: bool,
    task: str | None,
    evidence: Sequence[Evidence] | None = None,
) -> Risk:
    """Return what is known of a cut.

    Args:
        cut: its name.
        depth: split layer over blocks.
        share: rank over hidden width.
        encoding: of activations and gradients.
        healed: whether the model was prepared for the cut.
        task: whose runs to look at; one that was not measured, or None: all of them, the worst.
        evidence: what was measured; None: all that is known.
    """
    runs = known() if evidence is None else evidence
    tasks = tuple(dict.fromkeys(run.task for run in runs))
    wanted = (task,) if task in tasks else tasks
    if cut == "none" and encoding == "float32":  # computes what the uncut model does
        return Risk(0.0, wanted)
    harder = [run for run in runs if _harder(run, cut, depth, share, encoding, healed)]
    losses = {name: _least(run.loss for run in harder if run.task == name) for name in wanted}
    found = {name: loss for name, loss in losses.items() if loss is not None}
    complete = len(found) == len(wanted)
    return Risk(max(found.values()) if complete else None, tuple(found))


def _harder(
    run: Evidence, cut: str, depth: float, share: float, encoding: str, healed: bool
) -> bool:
    """Return whether a run is one that a plan should not do worse than."""
    return (
        run.cut == cut
        and run.healed == healed
        and run.depth <= depth + NOT_LESS
        and run.share <= share + NOT_LESS
        and all(FINENESS.index(each) <= FINENESS.index(encoding) for each in run.encodings)
    )


def _least(losses: Iterable[float]) -> float | None:
    return min(losses, default=None)
