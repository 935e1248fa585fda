"""Which plans there are for a scene, and which of them to choose.

It measures nothing and knows no cloud; all of it can be computed from a written scene.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

from sft_common.config import CUTS as CUT_NAMES
from sft_common.config import ENCODINGS
from sft_common.errors import ConfigError
from sft_edge.defaults import USUAL
from sft_edge.pacing import CANDIDATES
from sft_edge.planner.evidence import known
from sft_edge.planner.forecasting import (
    Forecast,
    Yardsticks,
    cloud_bytes,
    edge_bytes,
    forecast,
    yardsticks,
)
from sft_edge.planner.scene import Scene
from sft_edge.planner.setting import Asked, Setting

CUTS = ("stream", "sft", "none")
"""Cuts that are considered unless one is named; all leave the block in the same place."""

RANKS = (8, 16, 32, 64, 128, 256)
"""Ranks that are considered, beside the usual ones and those whose accuracy was measured."""

TIE = 0.05
"""Plans within this share of the fastest take as long: no prediction is better than that."""


class Choice(NamedTuple):
    """The plans for a scene."""

    ranked: list[Forecast]
    """Those that fit and whose accuracy is known to suffice, the best first."""

    too_large: int
    """Settings left out because net1 does not fit, or net2."""

    too_large_there: int
    """Of them, those whose net2 does not fit."""

    too_risky: list[Forecast]
    """Those that fit, but whose loss of accuracy is larger or not known, the fastest first."""

    yardsticks: Yardsticks

    @property
    def best(self) -> Forecast | None:
        """What to do; None: nothing fits."""
        return self.ranked[0] if self.ranked else None


def choose(scene: Scene, asked: Asked) -> Choice:
    """Return all plans for a scene."""
    check_asked(asked, scene.layers, scene.sizes.hidden)
    asked = _within(scene, asked)
    settings = list(settings_for(scene, asked))
    free = scene.edge.memory_bytes if asked.memory_bytes is None else asked.memory_bytes
    there = [each for each in settings if cloud_bytes(scene, each) <= scene.cloud.memory_bytes]
    fits = [each for each in there if edge_bytes(scene, each) <= free]
    found = [forecast(scene, each, asked) for each in fits]
    safe: list[Forecast] = []
    risky: list[Forecast] = []
    for each in found:
        (safe if each.risk.within(asked.max_loss) else risky).append(each)
    risky.sort(key=lambda each: each.seconds)
    left_out = len(settings) - len(fits), len(settings) - len(there)
    return Choice(ranked(safe), *left_out, risky, yardsticks(scene))


def _within(scene: Scene, asked: Asked) -> Asked:
    """Return what a choice is held to, with a model that was prepared for one cut too.

    Raises:
        ConfigError: another cut is asked for.
    """
    if scene.prepared is None:
        return asked
    cut, rank, _ = scene.prepared
    if asked.cut not in (None, cut) or asked.rank not in (None, rank):
        raise ConfigError(
            f"{scene.sizes.name} was prepared for the cut {cut} at rank {rank}; leave --cut and "
            "--rank out"
        )
    return dataclasses.replace(asked, cut=cut, rank=rank)


def check_asked(asked: Asked, layers: Sequence[int], hidden: int) -> None:
    """Refuse a cut, a layer or a rank that there is not.

    Raises:
        ConfigError: says which.
    """
    if asked.split_layer is not None and asked.split_layer not in layers:
        raise ConfigError(
            f"split layer {asked.split_layer} is not one of {layers[0]}..{layers[-1]}, "
            "the blocks that can be cut here; choose a --split-layer of them"
        )
    if asked.rank is not None and not 1 <= asked.rank <= hidden:
        raise ConfigError(
            f"rank {asked.rank} is outside 1..{hidden}, the model's width; choose a --rank in that "
            "range"
        )
    if asked.cut not in (None, *CUT_NAMES):
        raise ConfigError(f"unknown cut {asked.cut!r}; choose one of: {', '.join(CUT_NAMES)}")


def settings_for(scene: Scene, asked: Asked) -> Iterable[Setting]:
    """Yield what may be chosen, within what was asked for."""
    layers = [asked.split_layer] if asked.split_layer else scene.layers
    encodings = [asked.encoding] if asked.encoding else ENCODINGS
    counts = [asked.micro_batches] if asked.micro_batches else CANDIDATES
    free = [cut for cut in CUTS if cut != "none" or asked.rank is None]
    for cut in [asked.cut] if asked.cut else free:
        ranks = [0] if cut == "none" else _ranks(cut, scene.sizes.hidden, asked.rank)
        for layer, rank, encoding, count in product(layers, ranks, encodings, counts):
            yield Setting(cut, layer, rank, encoding, count)


def ranked(found: Sequence[Forecast]) -> list[Forecast]:
    """Return plans in order: the best, then the others by their time.

    Among those that take as long as the fastest the best is the one that risks least; then that
    moves least; then that needs least of the edge.
    """
    by_time = sorted(found, key=lambda each: each.seconds)
    if not by_time:
        return []
    as_fast = [each for each in by_time if each.seconds <= (1 + TIE) * by_time[0].seconds]
    best = min(as_fast, key=_preference)
    return [best, *(each for each in by_time if each is not best)]


def shortlist(plans: Sequence[Forecast], most: int) -> list[Forecast]:
    """Return the first plans that no earlier one is better than in every respect.

    Of those that differ in micro-batches alone the first is shown.
    """
    kept: list[Forecast] = []
    for plan in plans:
        if len(kept) < most and not any(_better(o, plan) or _like(o, plan) for o in kept):
            kept.append(plan)
    return kept


def _ranks(cut: str, hidden: int, asked: int | None) -> list[int]:
    if asked is not None:
        return [asked]
    usual = (USUAL[cut].upper, USUAL[cut].lower)
    measured = {round(run.share * hidden) for run in known() if run.cut == cut}
    return sorted(rank for rank in {*RANKS, *usual, *measured} if 1 <= rank <= hidden // 2)


def _preference(plan: Forecast) -> tuple[float, float, int]:
    return plan.risk.at_most, plan.bytes_up + plan.bytes_down, plan.edge_bytes


def _like(other: Forecast, plan: Forecast) -> bool:
    """Return whether two plans differ in micro-batches alone."""
    return other.setting._replace(micro_batches=plan.setting.micro_batches) == plan.setting


def _better(other: Forecast, plan: Forecast) -> bool:
    """Return whether another plan is at least as good in every respect that is shown."""
    theirs, ours = ((f.seconds, *_preference(f)) for f in (other, plan))
    return all(a <= b for a, b in zip(theirs, ours, strict=True))
