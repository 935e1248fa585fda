"""Looks at everything a plan depends on: link, cloud and this device. A minute or two.

It knows models and clouds; what becomes of the figures is in choice.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_edge.channel import connect
from sft_edge.device import memory_of
from sft_edge.greeting import greet
from sft_edge.link import Link, measure_over
from sft_edge.machine import device_name
from sft_edge.planner.choice import Asked, check_asked
from sft_edge.planner.cloud_rehearsal import Measured, rehearse_cloud
from sft_edge.planner.edge_rehearsal import Rehearsed, rehearse_edge
from sft_edge.planner.sample import Sample
from sft_edge.planner.scene import Cloud, Edge, Scene, Sizes

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

    @property
    def config(self) -> PretrainedConfig:
        """The model's."""
        return self.pretrained.config


def measure_scene(subject: Subject, asked: Asked, say: Say) -> Scene:
    """Return what was measured.

    Args:
        subject: for what.
        asked: what is to be chosen among; its cut says which one is measured.
        say: tells a person what goes on.

    Raises:
        SftError: something was asked for that there is not, or the cloud is not to be reached, or
            refuses; the message says why.
        OSError: this system does not say what memory is free.
    """
    shape, prepared = shape_of(subject.config), subject.pretrained.prepared
    split = prepared or _rehearsed_split(asked.cut, shape)
    layers = (split.split_layer,) if prepared else tuple(range(1, shape.blocks + 1))
    check_asked(asked, layers, shape.hidden)
    here = memory_of(subject.device)[0]  # before the rehearsal has taken some of it
    link, free_bytes = _link(subject.access, say)
    say("the cloud: steps of two sessions, which are thrown away")
    cloud = rehearse_cloud(
        subject.access,
        dataclasses.replace(subject.spec, split=split, encoding="float32"),
        shape,
        (max(layers), min(layers)),
        subject.sample.lengths,
        prepared=prepared is not None,
        keeps_labels=subject.keeps_labels,
        max_message_bytes=subject.max_message_bytes,
    )
    say("this device: steps of net1 alone")
    edge = rehearse_edge(subject.pretrained, split, subject.sample, subject.device)
    return Scene(
        sizes=_sizes(subject, shape),
        batches=subject.sample.lengths,
        link=link,
        edge=_edge(edge, subject.device, here),
        cloud=_cloud(cloud, free_bytes, shape.blocks - max(layers)),
        layers=layers,
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


def _sizes(subject: Subject, shape: ModelShape) -> Sizes:
    pretrained, split = subject.pretrained, subject.pretrained.prepared
    of = {
        layer: pretrained.parameters_of(
            dataclasses.replace(split, split_layer=layer)
            if split
            else SplitSpec(cut=STAND_IN, split_layer=layer, rank=1)
        )
        for layer in {1, min(2, shape.blocks), shape.blocks}
    }
    return Sizes(
        name=subject.name,
        blocks=shape.blocks,
        hidden=shape.hidden,
        base_parameters=of[1][0],
        block_parameters=of[min(2, shape.blocks)][0] - of[1][0],
        top_parameters=of[shape.blocks][1],
    )


def _edge(measured: Rehearsed, device: torch.device, free_bytes: int) -> Edge:
    return Edge(
        name=device_name(device),
        memory_bytes=free_bytes,
        base=measured.base,
        block=measured.block,
        late=measured.late,
        base_token_bytes=measured.base_token_bytes,
        block_token_bytes=measured.block_token_bytes,
    )


def _cloud(measured: Measured, free_bytes: int, above: int) -> Cloud:
    """Return the cloud; `above` blocks of what was measured are no part of the top."""
    top = measured.top.plus(measured.block, -above)
    return Cloud(name=measured.device, memory_bytes=free_bytes, top=top, block=measured.block)
