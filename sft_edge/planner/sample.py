"""A few batches that stand for a training: of its data, or invented where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import PretrainedConfig

from sft_common.plan import Plan, epoch_batches, micro_batches
from sft_common.wire.packing import mask_of
from sft_edge.planner.scene import Lengths, padded
from sft_edge.tasks.batches import Batch, Dataset

BATCHES = 8
"""How many stand for a training."""


class Sample(Protocol):
    """Batches, from the smallest to the largest."""

    lengths: tuple[Lengths, ...]
    """Of their examples."""

    largest: int
    """Tokens that a batch of the training has at most, padding included."""

    def parts(self, number: int, count: int) -> list[Batch]:
        """Return a batch in so many micro-batches."""


class DataSample:
    """Batches of the training part, as the first epoch has them.

    Args:
        dataset: the training part.
        plan: how batches are made.
    """

    def __init__(self, dataset: Dataset, plan: Plan) -> None:
        known = dataset.all_lengths()
        batches = epoch_batches(plan, known, 0)
        whole = [rows for rows in batches if len(rows) == plan.batch_size] or batches
        whole.sort(key=lambda rows: padded([known[row] for row in rows]))
        count = min(BATCHES, len(whole))
        self._rows = [whole[(2 * n + 1) * len(whole) // (2 * count)] for n in range(count)]
        self._dataset, self._known = dataset, known
        self.lengths = tuple(tuple(dataset.lengths(rows)) for rows in self._rows)
        self.largest = len(self._rows[-1]) * max(known)

    def parts(self, number: int, count: int) -> list[Batch]:
        """Return a batch in so many micro-batches."""
        parts = micro_batches(self._rows[number], self._known, count)
        return [self._dataset.batch(rows) for rows in parts]


class InventedSample:
    """One batch of random tokens, or of empty images, of a classification.

    Args:
        config: of the model.
        examples: B.
        tokens: of every example.
    """

    def __init__(self, config: PretrainedConfig, examples: int, tokens: int) -> None:
        self._config = config
        self.lengths: tuple[Lengths, ...] = ((tokens,) * examples,)
        self.largest = examples * tokens

    def parts(self, number: int, count: int) -> list[Batch]:
        """Return the batch in so many micro-batches."""
        lengths = self.lengths[number]
        parts = micro_batches(range(len(lengths)), lengths, count)
        return [self._batch([lengths[row] for row in rows]) for rows in parts]

    def _batch(self, lengths: Sequence[int]) -> Batch:
        labels = [0] * len(lengths)
        size = getattr(self._config, "image_size", None)
        if size is not None:
            shape = (len(lengths), self._config.num_channels, size, size)
            return Batch(
                inputs={"pixel_values": torch.zeros(shape)}, lengths=[*lengths], labels=labels
            )
        mask_BM = mask_of(lengths, max(lengths))
        # As in texts, few words are many of the tokens: the logarithm of a word's number is even.
        draws_BM = torch.rand(mask_BM.shape, generator=torch.Generator().manual_seed(len(lengths)))
        tokens_BM = (self._config.vocab_size**draws_BM).long() - 1
        inputs = {"input_ids": tokens_BM * mask_BM, "attention_mask": mask_BM.long()}
        return Batch(inputs=inputs, lengths=[*lengths], labels=labels)
