"""How long and how fast to train, and in which order: the same on whichever side runs the loop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch

from sft_common.config import LARGEST
from sft_common.errors import ConfigError

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises (released code of SFT)."""

SORTED_BATCHES = 50
"""Batches whose examples are sorted by length together, with `group_by_length`."""

MOST = 2**40
"""More epochs, steps or examples than any run has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How long and how fast to train."""

    epochs: int
    """Passes over the training part, at least 1."""

    max_steps: int | None = None
    """Stop after so many steps; None runs all epochs."""

    batch_size: int
    """Examples of one step."""

    learning_rate: float
    """Peak rate."""

    seed: int
    """Seed of the order of batches."""

    group_by_length: bool = False
    """Whether a batch holds examples of about one length, so that little of it is padding."""

    def __post_init__(self) -> None:
        most = 1 if self.max_steps is None else self.max_steps
        for name, value in (("epochs", self.epochs), ("batch size", self.batch_size)):
            if not 1 <= value <= MOST:
                raise ConfigError(f"{value} {name} is outside 1..{MOST}")
        if not 1 <= most <= MOST:
            raise ConfigError(f"{most} steps is outside 1..{MOST}")
        if not 0 <= self.learning_rate <= LARGEST:
            raise ConfigError(f"learning rate {self.learning_rate} is outside 0..{LARGEST:g}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed {self.seed} is outside 0..{2**63 - 1}")

    def total_steps(self, examples: int) -> int:
        """Return the number of steps for so many training examples.

        Raises:
            ConfigError: more than any run has.
        """
        steps = self.epochs * self.epoch_steps(examples)
        total = steps if self.max_steps is None else min(steps, self.max_steps)
        if total > MOST:
            raise ConfigError(f"{total} steps is outside 1..{MOST}")
        return total

    def epoch_steps(self, examples: int) -> int:
        """Return the number of steps of an epoch over so many training examples."""
        return math.ceil(examples / self.batch_size)


class PlannedStep(NamedTuple):
    """One step of a plan."""

    step: int
    """From 1."""

    epoch: int
    """From 1."""

    rows: list[int]
    """Examples of the batch, from 0."""

    learning_rate: float

    evaluates: bool
    """Whether an evaluation follows: after every epoch, and after the last step."""


def planned_steps(plan: Plan, lengths: Sequence[int]) -> Iterator[PlannedStep]:
    """Yield the steps of a plan over examples of these lengths."""
    total, step = plan.total_steps(len(lengths)), 0
    for epoch in range(plan.epochs):
        batches = epoch_batches(plan, lengths, epoch)
        for number, rows in enumerate(batches, start=1):
            if step == total:
                return
            step += 1
            rate = learning_rate_at(step, total, plan.learning_rate)
            yield PlannedStep(step, epoch + 1, rows, rate, number == len(batches) or step == total)


def epoch_batches(plan: Plan, lengths: Sequence[int], epoch: int) -> list[list[int]]:
    """Return the batches of an epoch (from 0) over examples of these lengths, each example once.

    With `group_by_length` the shuffled examples are sorted by length in stretches of
    `SORTED_BATCHES` batches, and the batches are shuffled again: their number is the same.
    """
    order = epoch_order(len(lengths), seed=plan.seed, epoch=epoch)
    if plan.group_by_length:
        stretches = _slices(order, SORTED_BATCHES * plan.batch_size)
        order = [row for part in stretches for row in sorted(part, key=lengths.__getitem__)]
    batches = _slices(order, plan.batch_size)
    if plan.group_by_length:
        again = epoch_order(len(batches), seed=plan.seed, epoch=epoch)
        batches = [batches[number] for number in again]
    return batches


def micro_batches(rows: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    """Return a batch in parts of about equally many examples, the shortest examples first.

    Examples of about one length share a part, so that little of it is padding; and the first part
    is soon ready.

    Args:
        rows: the batch.
        lengths: of all examples.
        count: of parts; fewer if the batch has fewer examples. 1 leaves the order as it is.
    """
    if count == 1:
        return [list(rows)]
    count = min(count, len(rows))
    ordered = sorted(rows, key=lengths.__getitem__)
    ends = [len(rows) * part // count for part in range(count + 1)]
    return [ordered[start:end] for start, end in pairwise(ends)]


def epoch_order(examples: int, *, seed: int, epoch: int) -> list[int]:
    """Return the order of the examples that seed and epoch (from 0) give."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(examples, generator=generator).tolist()


def _slices(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def learning_rate_at(step: int, total: int, peak: float) -> float:
    """Return the rate of a step (from 1): linear rise over 10 % of the steps, then linear fall.

    As in the released code of SFT, counted so that step `k` is the schedule's (k - 1)-th update.
    """
    done, warm_up = step - 1, int(WARM_UP * total)
    if done < warm_up:
        return peak * done / warm_up
    return peak * (total - done) / (total - warm_up)
