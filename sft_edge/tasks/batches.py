"""Tokens and labels, kept flat, handed out as padded batches in a seeded order. It knows no text.

Legend: B batch, M padded length of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sft_common.labels import FlatLabels
from sft_common.plan import epoch_order
from sft_common.wire.packing import mask_of

Labels = list[int] | list[float]
"""Of a batch, flat, as its head takes them (sft_common/model/heads.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some examples, padded on the right to the longest of them."""

    inputs: dict[str, Tensor]
    """Inputs of the model by name; of text each (B, M), `attention_mask` among them."""

    lengths: list[int]
    """Real tokens of each example, B entries."""

    labels: Labels
    """What is to be learned."""

    @property
    def mask(self) -> Tensor:
        """True for real tokens, shape (B, M)."""
        return mask_of(self.lengths, max(self.lengths))

    @property
    def padded_tokens(self) -> int:
        """B x M, the tokens that plain split learning would send."""
        return len(self.lengths) * max(self.lengths)


class Dataset(ABC):
    """Examples ready for the model."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @abstractmethod
    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the tokens of the examples of these numbers."""

    def all_lengths(self) -> list[int]:
        """Return the tokens of every example."""
        return self.lengths(range(len(self)))

    @abstractmethod
    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the examples of these numbers."""

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all examples once in their own order."""
        return self._batches(list(range(len(self))), batch_size)

    def shuffled(self, batch_size: int, *, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield all examples once in the order that seed and epoch (from 0) give."""
        return self._batches(epoch_order(len(self), seed=seed, epoch=epoch), batch_size)

    def _batches(self, order: list[int], batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start : start + batch_size])


class TokenRows(Dataset):
    """Examples as rows of tokens, kept flat: a few bytes a token, however many texts.

    Args:
        names: inputs of the model, one number a token each.
        padding: token id that fills a batch up.
        numbers: whether labels are numbers (floats) instead of classes.
    """

    def __init__(self, names: Sequence[str], *, padding: int, numbers: bool = False) -> None:
        self._columns: dict[str, array[int]] = {name: array("i") for name in names}
        self._starts = array("q", [0])
        self._labels = FlatLabels(numbers=numbers)
        self._padding = {"input_ids": padding}

    def add(self, columns: Mapping[str, Sequence[int]], labels: Sequence[float]) -> None:
        """Append one example: its tokens by input name, and its labels."""
        for name, column in self._columns.items():
            column.extend(columns[name])
        self._starts.append(self._starts[-1] + len(columns["input_ids"]))
        self._labels.add(labels)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the tokens of the examples of these numbers."""
        return [self._starts[row + 1] - self._starts[row] for row in rows]

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the examples of these numbers, padded to the longest."""
        spans = [slice(self._starts[row], self._starts[row + 1]) for row in rows]
        lengths = self.lengths(rows)
        inputs = {
            name: pad_sequence(
                [torch.tensor(column[span], dtype=torch.long) for span in spans],
                batch_first=True,
                padding_value=self._padding.get(name, 0),
            )
            for name, column in self._columns.items()
        }
        inputs["attention_mask"] = mask_of(lengths, max(lengths)).long()
        return Batch(inputs=inputs, lengths=lengths, labels=self._labels.of(rows))
