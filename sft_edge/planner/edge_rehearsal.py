"""Measures what net1 takes of this device: real training steps, with no cloud and random numbers.

Two cuts are rehearsed; what the higher one takes more is what the blocks between take.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sft_common.config import ENCODINGS, OptimizerSpec, SplitSpec
from sft_common.errors import DataError
from sft_common.model.heads import HEAD_TABLE, Head
from sft_common.model.loading import Pretrained, dropouts_of
from sft_common.model.partition import Net1
from sft_common.wire.codec import tensor_from_parts, tensor_to_parts
from sft_edge.learners import SplitLearner
from sft_edge.planner.sample import Sample
from sft_edge.planner.scene import Work, line_through, padded, per_block
from sft_edge.remote import CloudSession
from sft_edge.tasks.batches import Batch

COUNTS = (1, 8)
"""Micro-batches of the steps that are rehearsed: large ones and small ones."""

ROUNDS = 5
"""How often each step is taken: once to warm up; the median of the others counts."""

BUDGET_SECONDS = 15.0
"""No step of a third or later round is begun after so long, for each cut."""

CODEC_ROWS = (512, 128)
"""Tokens and numbers of the activation that is written and read."""

HIGHER = 3
"""Blocks that the second cut is above the first, where there are so many."""


class Rehearsed(NamedTuple):
    """What net1 takes."""

    base: Work
    """Cut in block 1."""

    block: Work
    """A block more."""

    late: float
    """Seconds of the update that can be put off."""

    base_token_bytes: float
    block_token_bytes: float
    dropout_factor: float
    """How many times longer its passes take with the model's dropout."""

    codec: dict[str, float]
    """Encoding -> seconds to write and read a number."""


class _Times(NamedTuple):
    """What net1 of one cut takes."""

    work: Work
    late: float
    token_bytes: float


class _Taken(NamedTuple):
    """What one step took, in seconds; a number for each micro-batch."""

    forward: list[float]
    backward: list[float]
    late: float
    update: float


def rehearse_edge(
    pretrained: Pretrained,
    split: SplitSpec,
    sample: Sample,
    device: torch.device,
    layers: tuple[int, int],
) -> Rehearsed:
    """Return what net1 takes of a device, cut in whichever block.

    Args:
        pretrained: the model, of which the configuration alone is read.
        split: cut and rank; the layer does not matter.
        sample: typical batches.
        device: where net1 runs.
        layers: block 1, and another to cut; or block 1 again.

    Raises:
        DataError: the batches have nothing to learn from.
    """
    times = []
    for layer in dict.fromkeys(layers):
        times.append(_times(pretrained, split, layer, sample, device))
        gc.collect()  # the words' table knows who trains it, and is known to it
    low, high = times[0], times[-1]
    between = layers[1] - layers[0]
    return Rehearsed(
        base=low.work,
        block=per_block(low.work, high.work, between),
        late=min(low.late, high.late),
        base_token_bytes=low.token_bytes,
        block_token_bytes=max(0.0, (high.token_bytes - low.token_bytes) / max(1, between)),
        dropout_factor=_dropout_factor(pretrained, layers[1], sample, device, high.work),
        codec={encoding: _codec_seconds(encoding) for encoding in ENCODINGS},
    )


def steps_of(batches: int) -> list[tuple[int, int]]:
    """Return which of so many batches are rehearsed, and in how many parts."""
    last = batches - 1
    return [(number, count) for number in sorted({0, last // 2, last}) for count in COUNTS]


def _dropout_factor(
    pretrained: Pretrained, layer: int, sample: Sample, device: torch.device, without: Work
) -> float:
    """Return how many times longer net1's passes take below a cut that keeps dropout there."""
    if not any(dropouts_of(pretrained.config).values()):
        return 1.0
    uncut = SplitSpec(cut="none", split_layer=layer)
    found = _times(pretrained, uncut, layer, sample, device).work
    gc.collect()
    tokens = padded(sample.lengths[len(sample.lengths) // 2])
    pair = (work.forward.of(tokens) + work.backward.of(tokens) for work in (found, without))
    with_dropout, spared = pair
    return max(1.0, with_dropout / spared)


def _codec_seconds(encoding: str) -> float:
    """Return the seconds to write and read a number of an activation, as messages have it."""
    rows_TW, taken = torch.randn(CODEC_ROWS), []
    for _ in range(2 * ROUNDS):
        begin = time.perf_counter()
        tensor, numbers = tensor_to_parts(rows_TW, encoding)
        tensor_from_parts(tensor, numbers, CODEC_ROWS, "activation", encoding)
        taken.append(time.perf_counter() - begin)
    return median(taken) / rows_TW.numel()


def _times(
    pretrained: Pretrained, split: SplitSpec, layer: int, sample: Sample, device: torch.device
) -> _Times:
    """Return what net1 takes that is cut in one block."""
    at = SplitSpec(cut=split.cut, split_layer=layer, rank=split.rank)
    net1 = pretrained.blank_net1(at).to(device)
    chosen = steps_of(len(sample.lengths))
    head = HEAD_TABLE[pretrained.head]
    # As in a step, what has nothing to learn from is left out.
    labelled = (
        (each, [batch for batch in sample.parts(*each) if head.weight(batch.labels)])
        for each in chosen
    )
    parts = {each: batches for each, batches in labelled if batches}
    if not parts:
        raise DataError("no token of the batches to measure with has a label")
    token_bytes = _kept_bytes(net1, [*parts.values()][-1][-1], device)
    rehearsal = _Rehearsal(net1, head, device)
    taken: dict[tuple[int, int], list[_Taken]] = {each: [] for each in parts}
    begin = time.monotonic()
    for _ in range(ROUNDS):
        for each, batches in parts.items():
            if len(taken[each]) < 2 or time.monotonic() - begin < BUDGET_SECONDS:
                taken[each].append(rehearsal.step(batches))
    return _fitted(parts, {each: steps[1:] for each, steps in taken.items()}, token_bytes)


def _fitted(
    parts: dict[tuple[int, int], list[Batch]],
    taken: dict[tuple[int, int], list[_Taken]],
    token_bytes: float,
) -> _Times:
    forward: list[tuple[int, float]] = []
    backward: list[tuple[int, float]] = []
    for each, batches in parts.items():
        for place, batch in enumerate(batches):
            tokens = padded(batch.lengths)
            forward.append((tokens, median(step.forward[place] for step in taken[each])))
            backward.append((tokens, median(step.backward[place] for step in taken[each])))
    steps = [step for group in taken.values() for step in group]
    update = median(step.update for step in steps)
    work = Work(line_through(forward), line_through(backward), update)
    return _Times(work, median(step.late for step in steps), token_bytes)


class _Rehearsal:
    """Takes training steps and times their parts.

    Args:
        net1: with numbers, on the device.
        head: what net2 would end in.
        device: where net1 is.
    """

    def __init__(self, net1: Net1, head: Head, device: torch.device) -> None:
        self._device, self._nobody = device, Nobody(device)
        self._learner = _Timed(
            net1, cast(CloudSession, self._nobody), head, OptimizerSpec(), device
        )
        self._step = 0

    def step(self, batches: Sequence[Batch]) -> _Taken:
        """Take a step."""
        self._step += 1
        self._nobody.sent.clear()
        self._nobody.asked.clear()
        begin = time.perf_counter()
        self._learner.train_step(self._step, batches, 0.0)
        _wait_for(self._device)
        end, sent, asked = time.perf_counter(), self._nobody.sent, self._nobody.asked
        settled = self._learner.settling
        ends = [*asked[1:], settled[0]]
        return _Taken(
            forward=[b - a for a, b in zip([begin, *sent], sent, strict=False)],
            backward=[b - a for a, b in zip(asked, ends, strict=True)],
            late=settled[1] - settled[0],
            update=end - settled[1],
        )


class _Timed(SplitLearner):
    """A learner that says when it settled what it had put off."""

    settling = (0.0, 0.0)

    def settle(self) -> None:
        """Finish the steps that were taken."""
        _wait_for(self._device)
        begin = time.perf_counter()
        super().settle()
        _wait_for(self._device)
        self.settling = begin, time.perf_counter()


class Nobody:
    """In place of a session: answers at once, with the activation as its gradient.

    It has the part of `CloudSession` that a training step uses where labels are sent.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._under_way = device, deque[Tensor]()
        self.sent: list[float] = []
        self.asked: list[float] = []

    def begin_step(self, step: int, activation_TW: Tensor, *_: Any, **__: Any) -> None:
        """Take an activation."""
        self._under_way.append(activation_TW.cpu())
        self.sent.append(time.perf_counter())

    def end_step(self) -> tuple[float, Tensor]:
        """Give the oldest back."""
        _wait_for(self._device)
        self.asked.append(time.perf_counter())
        return 0.0, self._under_way.popleft()

    def answered(self) -> bool:
        """Return True: nothing is waited for."""
        return True

    def apply(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def _kept_bytes(net1: Net1, batch: Batch, device: torch.device) -> float:
    """Return the bytes that a forward pass keeps for its backward, for each token."""
    own = {parameter.untyped_storage().data_ptr() for parameter in net1.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node that holds its own output would never be let go of

    net1.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        activation = net1({name: value.to(device) for name, value in batch.inputs.items()})
    del activation
    return sum(seen.values()) / padded(batch.lengths)


def _wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
