"""What a plan is made for: a model, its batches, a link and two devices. Plain numbers, no tensors.

Tokens of a cost are those that are computed, padding included; tokens of a message are real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean, linear_regression
from typing import NamedTuple

from sft_edge.link import Link

BACKWARD = 2
"""Backward passes take so many times a forward one, where they were not told apart."""

WIDE_CUTS = ("none", "svd-residual")
"""Cuts below which net1 keeps the model's dropout (docs/decisions/0008)."""

Lengths = tuple[int, ...]
"""Real tokens of each example of a batch."""


class Line(NamedTuple):
    """Seconds that depend on the tokens of a micro-batch."""

    fixed: float = 0.0
    """Seconds of a micro-batch, however small."""

    token: float = 0.0
    """Seconds more for each token."""

    def of(self, tokens: int) -> float:
        """Return the seconds of a micro-batch of so many tokens, padding included."""
        return self.fixed + self.token * tokens

    def times(self, factor: float) -> Line:
        """Return so many times this."""
        return Line(factor * self.fixed, factor * self.token)

    def plus(self, other: Line, times: float = 1.0) -> Line:
        """Return this and so many times the other."""
        return Line(self.fixed + times * other.fixed, self.token + times * other.token)


def line_through(points: Sequence[tuple[int, float]]) -> Line:
    """Return the line through (tokens, seconds) that lies closest; neither part is below 0."""
    tokens, seconds = zip(*points, strict=True)
    mean = fmean(seconds)
    if len(set(tokens)) == 1:
        return Line(0.0, mean / tokens[0])
    slope, fixed = linear_regression(tokens, seconds)
    if slope < 0:
        return Line(mean, 0.0)
    if fixed < 0:
        return Line(0.0, mean / fmean(tokens))
    return Line(fixed, slope)


class Work(NamedTuple):
    """What some layers take of a device for a micro-batch, and for their update."""

    forward: Line = Line()
    backward: Line = Line()
    update: float = 0.0
    """Seconds of the optimizer, once a step."""

    def plus(self, other: Work, times: float = 1.0) -> Work:
        """Return this and so many times the other."""
        return Work(
            self.forward.plus(other.forward, times),
            self.backward.plus(other.backward, times),
            self.update + times * other.update,
        )


def per_block(fewer: Work, more: Work, blocks: int) -> Work:
    """Return what one of so many blocks takes that one half has more than another."""
    if not blocks:
        return Work()
    forward, backward = (
        Line(*(max(0.0, (b - a) / blocks) for a, b in zip(*lines, strict=True)))
        for lines in ((fewer.forward, more.forward), (fewer.backward, more.backward))
    )
    return Work(forward, backward, max(0.0, (more.update - fewer.update) / blocks))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """A model, as far as a plan goes into it."""

    name: str
    """Folder or hub id."""

    blocks: int
    """L."""

    hidden: int
    """N."""

    base_parameters: int
    """Of net1 cut in block 1, without its share of the cut."""

    block_parameters: int
    """Of a block."""

    top_parameters: int
    """Of net2 cut in block L, without its share of the cut."""

    example_logits: float = 0.0
    """Logits of an example, as they travel where labels stay on the edge."""

    token_logits: float = 0.0
    """Logits of a token, of a head that has some for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """The device that holds net1."""

    name: str
    memory_bytes: int
    """Free for net1 and its training."""

    base: Work
    """Net1 cut in block 1: embeddings, attention of the block, encoder."""

    block: Work
    """A block more."""

    late: float = 0.0
    """Seconds of a step's update that can be put off to where the edge waits: the words' table."""

    base_token_bytes: float = 0.0
    """What `base` keeps of a token, padding included, from forward to backward."""

    block_token_bytes: float = 0.0
    """What a block more keeps."""

    dropout_factor: float = 1.0
    """How many times longer net1's passes take with the model's dropout, which was not measured in
    `base` and `block`."""

    codec: Mapping[str, float] = field(default_factory=dict)
    """Encoding -> seconds to write and read a number of an activation; one that is left out takes
    none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """The device that holds net2."""

    name: str
    memory_bytes: int
    """Free for net2 and its training."""

    top: Work
    """Net2 cut in block L: the rest of the block, and the head."""

    block: Work
    """A block more."""

    top_step_bytes: int = 0
    """What it reserves for the activations of the largest batch, cut in block L."""

    block_step_bytes: int = 0
    """The same of a block more."""


class Prepared(NamedTuple):
    """The only cut of a model that was made for it."""

    cut: str
    rank: int
    healed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything that a plan depends on."""

    sizes: Sizes
    batches: tuple[Lengths, ...]
    """Some steps' batches, typical of the training."""

    link: Link
    edge: Edge
    cloud: Cloud
    layers: tuple[int, ...]
    """Blocks that may be cut."""

    largest: int = 0
    """Tokens, padding included, of the largest batch of the training; 0: that of `batches`."""

    prepared: Prepared | None = None
    """What the model was made for; None: any cut."""

    def edge_work(self, split_layer: int, cut: str) -> Work:
        """Return what net1 takes."""
        work = self.edge.base.plus(self.edge.block, split_layer - 1)
        if cut not in WIDE_CUTS:
            return work
        factor = self.edge.dropout_factor
        return Work(work.forward.times(factor), work.backward.times(factor), work.update)

    def cloud_work(self, split_layer: int) -> Work:
        """Return what net2 takes."""
        return self.cloud.top.plus(self.cloud.block, self.sizes.blocks - split_layer)

    def whole_work(self) -> Work:
        """Return what the whole model takes on the edge.

        What is above the split block's upper part was measured on the cloud alone: it is taken to
        have the same proportion to a block here as there.
        """
        there = _pass_seconds(self.cloud.block)
        share = _pass_seconds(self.cloud.top) / there if there else 2 / 3
        return self.edge_work(self.sizes.blocks, "none").plus(self.edge.block, share)

    @property
    def tokens(self) -> float:
        """Real tokens of a mean batch."""
        return sum(chain.from_iterable(self.batches)) / len(self.batches)

    @property
    def longest(self) -> int:
        """Tokens, padding included, of the largest batch."""
        return max(self.largest, *(padded(batch) for batch in self.batches))


def padded(lengths: Sequence[int]) -> int:
    """Return B x M, the tokens that a batch of these lengths computes."""
    return len(lengths) * max(lengths)


def _pass_seconds(work: Work) -> float:
    """Return the seconds of a forward and a backward pass over a thousand tokens."""
    return work.forward.of(1000) + work.backward.of(1000)
