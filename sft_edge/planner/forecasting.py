"""What a plan would take of a scene: time, bytes, memory, accuracy. It compares nothing.

Legend: B batch, M padded length, N hidden width, W width on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import cycle, islice
from statistics import fmean
from typing import NamedTuple

from sft_common.plan import micro_batches
from sft_common.step_memory import BYTES_OF_PARAMETER
from sft_common.wire.encodings import ENCODING_TABLE
from sft_edge.planner.evidence import Risk, risk_of
from sft_edge.planner.scene import Lengths, Scene, padded
from sft_edge.planner.setting import Asked, Setting
from sft_edge.planner.timeline import Around, Leg, Timeline, in_turn
from sft_edge.traffic import framed_bytes

ENVELOPE_BYTES = 40
"""Of a message, beside its tensor and two bytes for each example."""

WARM_UP = 16
"""Steps that are taken before those that count: a cloud's long updates pile up slowly."""

UNCUT = Setting("none", 1, 0, "float32", 1)
"""Plain split learning, but for its layer."""


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
    """Memory of net2 and its training."""

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


def forecast(scene: Scene, setting: Setting, asked: Asked) -> Forecast:
    """Return what a plan would take."""
    kept, around = asked.labels == "edge", _around(scene, setting)
    legs = [
        list(_legs(scene, setting, parts)) for parts in _parts(scene.batches, setting.micro_batches)
    ]
    whole = [list(_legs(scene, setting, parts)) for parts in _parts(scene.batches, 1)]
    line = Timeline(kept=kept)
    for each in islice(cycle(legs), WARM_UP):  # until the first step's beginning is forgotten
        line.step(each, around)
    steps = [line.step(each, around) for each in legs]
    moved = _moved(scene, setting, kept=kept)
    return Forecast(
        setting=setting,
        seconds=fmean(step.seconds for step in steps),
        in_turn_seconds=fmean(in_turn(each, around, kept=kept) for each in whole),
        waiting_seconds=fmean(step.waiting for step in steps),
        bytes_up=moved,
        bytes_down=moved,
        edge_bytes=edge_bytes(scene, setting),
        cloud_bytes=cloud_bytes(scene, setting),
        risk=_risk(
            setting.cut,
            setting.split_layer / scene.sizes.blocks,
            setting.rank / scene.sizes.hidden,
            setting.encoding,
            scene.prepared is not None and scene.prepared.healed,
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
        local_bytes=BYTES_OF_PARAMETER * (parameters + sizes.top_parameters)
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
    return BYTES_OF_PARAMETER * parameters + round(kept)


def cloud_bytes(scene: Scene, setting: Setting) -> int:
    """Return the memory that a cloud reserves for net2 and the largest step."""
    sizes, cloud = scene.sizes, scene.cloud
    above = sizes.blocks - setting.split_layer
    parameters = sizes.top_parameters + above * sizes.block_parameters
    parameters += setting.rank * sizes.hidden
    step = cloud.top_step_bytes + above * cloud.block_step_bytes
    return BYTES_OF_PARAMETER * parameters + step


def width_of(setting: Setting, hidden: int) -> int:
    """Return W, the numbers that travel for each token."""
    if setting.cut == "none":
        return hidden
    return setting.rank + (hidden if setting.cut == "svd-residual" else 0)


def plain_seconds(scene: Scene, layer: int) -> float:
    """Return the seconds of a mean step of plain split learning in a layer (SFT, Eq. 4).

    Everything is padded, and travels so.
    """
    full = [[[max(batch)] * len(batch)] for batch in scene.batches]
    setting = UNCUT._replace(split_layer=layer)
    around = _around(scene, setting)
    return fmean(in_turn(list(_legs(scene, setting, parts)), around) for parts in full)


@lru_cache(maxsize=64)
def _parts(batches: tuple[Lengths, ...], count: int) -> list[list[list[int]]]:
    """Return for each batch the lengths of its micro-batches; thousands of plans share them."""
    return [
        [[batch[row] for row in rows] for rows in micro_batches(range(len(batch)), batch, count)]
        for batch in batches
    ]


def _legs(scene: Scene, setting: Setting, parts: Iterable[Sequence[int]]) -> Iterable[Leg]:
    """Yield the way of each micro-batch, given as the lengths of its examples."""
    edge = scene.edge_work(setting.split_layer, setting.cut)
    cloud = scene.cloud_work(setting.split_layer)
    link, codec = scene.link, scene.edge.codec.get(setting.encoding, 0.0)
    for lengths in parts:
        tokens, way = padded(lengths), _message_bytes(scene, setting, lengths)
        logits = _logits_bytes(scene, lengths)
        # Each side writes one tensor and reads one; the cloud is taken to be as fast at that.
        half = codec * sum(lengths) * width_of(setting, scene.sizes.hidden) / 2
        yield Leg(
            edge.forward.of(tokens) + half,
            way / link.up_bytes_per_second,
            cloud.forward.of(tokens) + half,
            cloud.backward.of(tokens) + half,
            way / link.down_bytes_per_second,
            edge.backward.of(tokens) + half,
            logits / link.down_bytes_per_second,
            logits / link.up_bytes_per_second,
        )


def _around(scene: Scene, setting: Setting) -> Around:
    return Around(
        latency=scene.link.round_trip_seconds / 2,
        update=scene.edge_work(setting.split_layer, setting.cut).update,
        late=scene.edge.late,
        cloud_update=scene.cloud_work(setting.split_layer).update,
    )


def _moved(scene: Scene, setting: Setting, *, kept: bool) -> float:
    """Return the bytes each way of a mean step; with labels on the edge logits travel too."""
    return fmean(
        sum(
            _message_bytes(scene, setting, lengths) + kept * _logits_bytes(scene, lengths)
            for lengths in parts
        )
        for parts in _parts(scene.batches, setting.micro_batches)
    )


def _message_bytes(scene: Scene, setting: Setting, lengths: Sequence[int]) -> int:
    row = ENCODING_TABLE[setting.encoding].row_bytes(width_of(setting, scene.sizes.hidden))
    return framed_bytes(sum(lengths) * row + 2 * len(lengths) + ENVELOPE_BYTES)


def _logits_bytes(scene: Scene, lengths: Sequence[int]) -> int:
    sizes = scene.sizes
    numbers = len(lengths) * sizes.example_logits + sum(lengths) * sizes.token_logits
    return framed_bytes(round(4 * numbers) + ENVELOPE_BYTES)


def _token_bytes(scene: Scene, layer: int) -> float:
    return scene.edge.base_token_bytes + (layer - 1) * scene.edge.block_token_bytes


@cache
def _risk(
    cut: str, depth: float, share: float, encoding: str, healed: bool, task: str | None
) -> Risk:
    return risk_of(cut, depth, share, encoding, healed=healed, task=task)
