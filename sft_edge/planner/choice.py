"""Which plans there are for a scene, what each would take, and which to choose.

It measures nothing and knows no cloud; all of it can be computed from a written scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import fmean
from typing import NamedTuple

from sft_common.config import CUTS as CUT_NAMES
from sft_common.config import ENCODINGS
from sft_common.errors import ConfigError
from sft_common.plan import micro_batches
from sft_common.wire.encodings import ENCODING_TABLE
from sft_edge.defaults import USUAL
from sft_edge.pacing import CANDIDATES
from sft_edge.planner.evidence import Risk, known, risk_of
from sft_edge.planner.scene import Lengths, Scene, padded
from sft_edge.planner.timeline import Around, Leg, Timeline, in_turn
from sft_edge.traffic import framed_bytes

CUTS = ("stream", "sft", "none")
"""Cuts that are considered unless one is named; all leave the block in the same place."""

RANKS = (8, 16, 32, 64, 128, 256)
"""Ranks that are considered, beside the usual ones and those whose accuracy was measured."""

TRAINED_BYTES = 16
"""A parameter, its gradient and two moments of AdamW, in float32."""

ENVELOPE_BYTES = 40
"""Of a message, beside its tensor and two bytes for each example."""

TIE = 0.05
"""Plans within this share of the fastest take as long: no prediction is better than that."""


class Setting(NamedTuple):
    """What one may choose."""

    cut: str
    split_layer: int
    rank: int
    """0 for the cut "none"."""

    encoding: str
    """Of activations and of their gradients."""

    micro_batches: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the choice is held to; what is None is free."""

    cut: str | None = None
    split_layer: int | None = None
    rank: int | None = None
    encoding: str | None = None
    micro_batches: int | None = None
    labels: str = "cloud"
    """Where the loss is computed, "cloud" or "edge"."""

    max_loss: float = 1.0
    """Points of the metric that a plan may lose."""

    memory_bytes: int | None = None
    """Of the edge; None: what the scene says."""

    task: str | None = None
    """Whose accuracy counts; None: that of all that were measured."""

    healed: bool = False
    """Whether the model was prepared for its cut."""


class Forecast(NamedTuple):
    """What a plan would take, of a mean step."""

    setting: Setting
    seconds: float
    """With all that runs side by side."""

    in_turn_seconds: float
    """With nothing side by side (SFT, Eq. 4)."""

    waiting_seconds: float
    """In which the edge would have nothing to do."""

    bytes_up: float
    bytes_down: float
    edge_bytes: int
    """Memory of net1 and its training."""

    cloud_bytes: int
    """Memory of net2 and its training, without activations."""

    risk: Risk


class Yardsticks(NamedTuple):
    """What a mean step takes otherwise."""

    local_seconds: float
    """The whole model on the edge (t_naive)."""

    local_bytes: int
    """Memory that it would need there."""

    plain_seconds: float
    """The fastest plain split learning: in lockstep, in float32, padding included."""

    plain_layer: int
    """Where that is cut."""

    plain_bytes: float
    """Bytes each way of its step."""


class Choice(NamedTuple):
    """The plans for a scene."""

    ranked: list[Forecast]
    """Those that fit and whose accuracy is known to suffice, the best first."""

    too_large: int
    """Settings left out because net1 or net2 does not fit."""

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
    settings = list(settings_for(scene, asked))
    free = scene.edge.memory_bytes if asked.memory_bytes is None else asked.memory_bytes
    fits = [
        each
        for each in settings
        if edge_bytes(scene, each) <= free and cloud_bytes(scene, each) <= scene.cloud.memory_bytes
    ]
    found = [forecast(scene, each, asked) for each in fits]
    safe: list[Forecast] = []
    risky: list[Forecast] = []
    for each in found:
        (safe if each.risk.within(asked.max_loss) else risky).append(each)
    risky.sort(key=lambda each: each.seconds)
    return Choice(ranked(safe), len(settings) - len(fits), risky, yardsticks(scene))


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
    for cut in [asked.cut] if asked.cut else CUTS:
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


def forecast(scene: Scene, setting: Setting, asked: Asked) -> Forecast:
    """Return what a plan would take."""
    around = _around(scene, setting.split_layer)
    legs = [
        _legs(scene, setting, micro_batches(range(len(b)), b, setting.micro_batches), b)
        for b in scene.batches
    ]
    kept = asked.labels == "edge"
    line = Timeline(kept=kept)
    for each in legs:  # until the first step's beginning is forgotten
        line.step(each, around)
    steps = [line.step(each, around) for each in legs]
    up, down = _moved(scene, setting)
    return Forecast(
        setting=setting,
        seconds=fmean(step.seconds for step in steps),
        in_turn_seconds=fmean(
            in_turn(_legs(scene, setting, [range(len(b))], b), around, kept=kept)
            for b in scene.batches
        ),
        waiting_seconds=fmean(step.waiting for step in steps),
        bytes_up=up,
        bytes_down=down,
        edge_bytes=edge_bytes(scene, setting),
        cloud_bytes=cloud_bytes(scene, setting),
        risk=_risk(
            setting.cut,
            setting.split_layer / scene.sizes.blocks,
            setting.rank / scene.sizes.hidden,
            setting.encoding,
            asked.healed,
            asked.task,
        ),
    )


def yardsticks(scene: Scene) -> Yardsticks:
    """Return what a mean step takes otherwise."""
    whole, late = scene.whole_work(), scene.edge.late
    tokens = [padded(batch) for batch in scene.batches]
    local = fmean(whole.forward.of(t) + whole.backward.of(t) for t in tokens)
    plain = {layer: plain_seconds(scene, layer) for layer in scene.layers}
    layer = min(plain, key=plain.__getitem__)
    sizes = scene.sizes
    parameters = sizes.base_parameters + (sizes.blocks - 1) * sizes.block_parameters
    return Yardsticks(
        local_seconds=local + whole.update + late,
        local_bytes=TRAINED_BYTES * (parameters + sizes.top_parameters)
        + round(scene.longest * _token_bytes(scene, sizes.blocks)),
        plain_seconds=plain[layer],
        plain_layer=layer,
        plain_bytes=4 * sizes.hidden * fmean(tokens),
    )


def edge_bytes(scene: Scene, setting: Setting) -> int:
    """Return the memory that net1 takes, with gradients, moments and what backward needs."""
    sizes = scene.sizes
    parameters = sizes.base_parameters + (setting.split_layer - 1) * sizes.block_parameters
    parameters += setting.rank * sizes.hidden
    kept = scene.longest * _token_bytes(scene, setting.split_layer)
    return TRAINED_BYTES * parameters + round(kept)


def cloud_bytes(scene: Scene, setting: Setting) -> int:
    """Return the memory that net2 takes, with gradients and moments."""
    sizes = scene.sizes
    above = (sizes.blocks - setting.split_layer) * sizes.block_parameters
    return TRAINED_BYTES * (sizes.top_parameters + above + setting.rank * sizes.hidden)


def width_of(setting: Setting, hidden: int) -> int:
    """Return W, the numbers that travel for each token."""
    if setting.cut == "none":
        return hidden
    return setting.rank + (hidden if setting.cut == "svd-residual" else 0)


def plain_seconds(scene: Scene, layer: int) -> float:
    """Return the seconds of a mean step of plain split learning in a layer (SFT, Eq. 4)."""
    edge, cloud = scene.edge_work(layer), scene.cloud_work(layer)
    around = _around(scene, layer)
    seconds = []
    for batch in scene.batches:
        tokens = padded(batch)
        way = framed_bytes(4 * scene.sizes.hidden * tokens)
        leg = Leg(
            edge.forward.of(tokens),
            way / scene.link.up_bytes_per_second,
            cloud.forward.of(tokens),
            cloud.backward.of(tokens),
            way / scene.link.down_bytes_per_second,
            edge.backward.of(tokens),
        )
        seconds.append(in_turn([leg], around))
    return fmean(seconds)


def _legs(
    scene: Scene, setting: Setting, parts: Sequence[Sequence[int]], batch: Lengths
) -> list[Leg]:
    """Return the ways of a batch's micro-batches, each given as numbers of examples."""
    edge, cloud = scene.edge_work(setting.split_layer), scene.cloud_work(setting.split_layer)
    legs = []
    for part in parts:
        lengths = [batch[row] for row in part]
        tokens, way = padded(lengths), _message_bytes(scene, setting, lengths)
        legs.append(
            Leg(
                edge.forward.of(tokens),
                way / scene.link.up_bytes_per_second,
                cloud.forward.of(tokens),
                cloud.backward.of(tokens),
                way / scene.link.down_bytes_per_second,
                edge.backward.of(tokens),
            )
        )
    return legs


def _around(scene: Scene, layer: int) -> Around:
    return Around(
        latency=scene.link.round_trip_seconds / 2,
        update=scene.edge_work(layer).update,
        late=scene.edge.late,
        cloud_update=scene.cloud_work(layer).update,
    )


def _moved(scene: Scene, setting: Setting) -> tuple[float, float]:
    """Return the bytes up and down of a mean step."""
    each = []
    for batch in scene.batches:
        parts = micro_batches(range(len(batch)), batch, setting.micro_batches)
        each.append(
            sum(_message_bytes(scene, setting, [batch[row] for row in part]) for part in parts)
        )
    return fmean(each), fmean(each)


def _message_bytes(scene: Scene, setting: Setting, lengths: Sequence[int]) -> int:
    row = ENCODING_TABLE[setting.encoding].row_bytes(width_of(setting, scene.sizes.hidden))
    return framed_bytes(sum(lengths) * row + 2 * len(lengths) + ENVELOPE_BYTES)


def _token_bytes(scene: Scene, layer: int) -> float:
    return scene.edge.base_token_bytes + (layer - 1) * scene.edge.block_token_bytes


def _ranks(cut: str, hidden: int, asked: int | None) -> list[int]:
    if asked is not None:
        return [asked]
    usual = (USUAL[cut].upper, USUAL[cut].lower)
    measured = {round(run.share * hidden) for run in known() if run.cut == cut}
    return sorted(rank for rank in {*RANKS, *usual, *measured} if 1 <= rank <= hidden // 2)


@cache
def _risk(
    cut: str, depth: float, share: float, encoding: str, healed: bool, task: str | None
) -> Risk:
    return risk_of(cut, depth, share, encoding, healed=healed, task=task)


def _preference(plan: Forecast) -> tuple[float, float, int]:
    return plan.risk.at_most, plan.bytes_up + plan.bytes_down, plan.edge_bytes


def _like(other: Forecast, plan: Forecast) -> bool:
    """Return whether two plans differ in micro-batches alone."""
    return other.setting._replace(micro_batches=plan.setting.micro_batches) == plan.setting


def _better(other: Forecast, plan: Forecast) -> bool:
    """Return whether another plan is at least as good in every respect that is shown."""
    theirs, ours = ((f.seconds, *_preference(f)) for f in (other, plan))
    return all(a <= b for a, b in zip(theirs, ours, strict=True))
