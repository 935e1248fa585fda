"""Looks at everything a plan depends on: link, cloud and this device. A minute or two.

It knows models and clouds; what becomes of the figures is in choice.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, RetryLaterError
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_common.rpc.spec import CloudBasis
from sft_common.step_memory import memory_of as memory_of_step
from sft_edge.channel import connect
from sft_edge.client import GrpcSession
from sft_edge.device import memory_of
from sft_edge.greeting import greet
from sft_edge.link import Link, measure_over
from sft_edge.machine import device_name
from sft_edge.opening import patiently
from sft_edge.planner.choice import check_asked
from sft_edge.planner.cloud_rehearsal import rehearse_cloud
from sft_edge.planner.edge_rehearsal import HIGHER, rehearse_edge
from sft_edge.planner.forecasting import cloud_bytes, edge_bytes
from sft_edge.planner.sample import Sample
from sft_edge.planner.scene import Cloud, Edge, Prepared, Scene, Sizes, Work
from sft_edge.planner.setting import Asked, Setting
from sft_edge.retrying import Retry

STAND_IN = "stream"
"""Cut that is rehearsed for all that leave the block where it does."""

ELSEWHERE = ("sft-output", "stream-end")
"""Cuts that leave it higher up: rehearsed themselves."""

RANK = 16
"""Of the rehearsed cut; other ranks take about as long."""

Say = Callable[[str], None]
"""Tells a person a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a plan is to be made for."""

    name: str
    """Of the model, for people."""

    pretrained: Pretrained
    spec: SessionSpec
    """Of a session with it; the cut is not heeded but for a model that was prepared."""

    sample: Sample
    access: Access
    device: torch.device
    """Where net1 would run."""

    keeps_labels: bool
    """Whether they are to stay here."""

    max_message_bytes: int
    wait_seconds: float
    """How long to wait for room on the cloud."""

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return shape_of(self.pretrained.config)


def measure_scene(subject: Subject, asked: Asked, say: Say) -> Scene:
    """Return what was measured.

    Args:
        subject: for what.
        asked: what is to be chosen among; its cut says which one is measured.
        say: tells a person what goes on.

    Raises:
        SftError: something was asked for that there is not, or no half fits, or the cloud is not to
            be reached, or refuses; the message says why.
        OSError: this system does not say what memory is free, and nobody else did.
    """
    shape, prepared = subject.shape, subject.pretrained.prepared
    split = prepared or _rehearsed_split(asked.cut, shape)
    layers = (split.split_layer,) if prepared else tuple(range(1, shape.blocks + 1))
    check_asked(asked, layers, shape.hidden)
    # Before the rehearsal has taken some of it.
    free_here = asked.memory_bytes or memory_of(subject.device)[0]
    link, free_there = _link(subject.access, say)
    scene = _unmeasured(subject, split, layers, link, free_here, free_there)
    highest, lowest = max(layers), _lowest(scene, split)
    high = _highest(scene, split)
    say("the cloud: steps of two sessions, which are thrown away")
    cloud = rehearse_cloud(
        partial(_open, subject, say),
        dataclasses.replace(subject.spec, split=split, encoding="float32"),
        shape,
        (highest, lowest),
        subject.sample.lengths,
        prepared=prepared is not None,
        keeps_labels=subject.keeps_labels,
    )
    say("this device: steps of net1 alone")
    edge = rehearse_edge(subject.pretrained, split, subject.sample, subject.device, (1, high))
    # Blocks above the highest cut of a model that was prepared are no part of the top.
    top = cloud.top.plus(cloud.block, highest - shape.blocks)
    return dataclasses.replace(
        scene,
        edge=dataclasses.replace(scene.edge, **edge._asdict()),
        cloud=dataclasses.replace(scene.cloud, name=cloud.device, top=top, block=cloud.block),
    )


def _rehearsed_split(cut: str | None, shape: ModelShape) -> SplitSpec:
    rehearsed = cut if cut in ELSEWHERE else STAND_IN
    return SplitSpec(cut=rehearsed, split_layer=1, rank=min(RANK, shape.hidden))


def _link(access: Access, say: Say) -> tuple[Link, int]:
    """Return the link, and the bytes of memory that are free on the cloud."""
    say("the link")
    channel = connect(access)
    try:
        free_bytes = greet(channel, access.connect_seconds).free_memory_bytes
        return measure_over(channel, access.connect_seconds), free_bytes
    finally:
        channel.close()


def _open(
    subject: Subject,
    say: Say,
    spec: SessionSpec,
    *,
    basis: Callable[[], CloudBasis] | None,
    prepared: bool,
) -> GrpcSession:
    """Return an open session, once there is room for it."""
    attempt = partial(
        GrpcSession,
        subject.access,
        spec,
        subject.shape,
        max_message_bytes=subject.max_message_bytes,
        basis=basis,
        prepared=prepared,
    )
    return patiently(
        attempt,
        RetryLaterError,
        wait=subject.wait_seconds,
        retry=Retry(for_seconds=subject.wait_seconds),
        say=say,
        stopped=lambda: False,
    )


def _unmeasured(
    subject: Subject,
    split: SplitSpec,
    layers: tuple[int, ...],
    link: Link,
    free_here: int,
    free_there: int,
) -> Scene:
    """Return a scene in which nothing takes any time: what is known of sizes and memory."""
    shape, sample = subject.shape, subject.sample
    prepared = subject.pretrained.prepared
    top, more = (_step_bytes(subject, layer) for layer in (shape.blocks, shape.blocks - 1))
    return Scene(
        sizes=_sizes(subject, shape, split),
        batches=sample.lengths,
        link=link,
        edge=Edge(
            name=device_name(subject.device), memory_bytes=free_here, base=Work(), block=Work()
        ),
        cloud=Cloud(
            name="",
            memory_bytes=free_there,
            top=Work(),
            block=Work(),
            top_step_bytes=top,
            block_step_bytes=more - top,
        ),
        layers=layers,
        largest=sample.largest,
        prepared=None
        if prepared is None
        else Prepared(prepared.cut, prepared.rank, healed=prepared.decoder_layers > 0),
    )


def _sizes(subject: Subject, shape: ModelShape, split: SplitSpec) -> Sizes:
    pretrained, head = subject.pretrained, HEAD_TABLE[subject.spec.head]
    second = min(2, shape.blocks)
    of = {
        layer: pretrained.parameters_of(dataclasses.replace(split, split_layer=layer))
        for layer in {1, second, shape.blocks}
    }
    classes = float(subject.spec.num_labels)
    return Sizes(
        name=subject.name,
        blocks=shape.blocks,
        hidden=shape.hidden,
        base_parameters=of[1][0],
        block_parameters=of[second][0] - of[1][0],
        top_parameters=of[shape.blocks][1],
        example_logits=0.0 if head.per_token else classes,
        token_logits=classes if head.per_token else 0.0,
    )


def _step_bytes(subject: Subject, layer: int) -> int:
    """Return what the cloud reserves for a step, cut in a block."""
    spec, shape = subject.spec, subject.shape
    at = dataclasses.replace(spec, split=SplitSpec(cut="none", split_layer=layer))
    each = HEAD_TABLE[spec.head].logits_per_token(subject.pretrained.family)
    longest = min(spec.max_tokens, shape.positions)
    return memory_of_step(at, shape, spec.max_examples, longest, logits_per_token=each)


def _lowest(scene: Scene, split: SplitSpec) -> int:
    """Return the lowest block whose net2 fits on the cloud.

    Raises:
        ConfigError: none does.
    """
    settings = [Setting(split.cut, layer, split.rank, "float32", 1) for layer in scene.layers]
    fits = [each for each in settings if cloud_bytes(scene, each) <= scene.cloud.memory_bytes]
    if not fits:
        least = cloud_bytes(scene, settings[-1])
        raise ConfigError(
            f"net2 takes at least {least / 1e9:.2f} GB on the cloud, which has "
            f"{scene.cloud.memory_bytes / 1e9:.2f} GB free; take a smaller --batch-size or "
            "--max-length, or ask its owner for more --memory"
        )
    return fits[0].split_layer


def _highest(scene: Scene, split: SplitSpec) -> int:
    """Return the block to rehearse beside the first: a few above it, as far as net1 fits here.

    Raises:
        ConfigError: not even the first fits.
    """
    most = min(1 + HIGHER, scene.sizes.blocks)
    settings = [Setting(split.cut, layer, split.rank, "float32", 1) for layer in range(1, most + 1)]
    fits = [each for each in settings if edge_bytes(scene, each) <= scene.edge.memory_bytes]
    if not fits:
        raise ConfigError(
            f"net1 takes at least {edge_bytes(scene, settings[0]) / 1e9:.2f} GB here, and "
            f"{scene.edge.memory_bytes / 1e9:.2f} GB are to be had; no plan fits into memory"
        )
    return fits[-1].split_layer
