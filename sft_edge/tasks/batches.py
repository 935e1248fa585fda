"""Examples -> tokens -> batches in a seeded order. It knows the tokenizer, not the model.

Legend: B batch, M padded length of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft_common.errors import ModelError
from sft_edge.tasks.examples import Example


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some examples, padded on the right to the longest of them."""

    inputs: dict[str, Tensor]
    """Inputs of the model by name, each (B, M), `attention_mask` among them."""

    lengths: list[int]
    """Real tokens of each example, B entries."""

    labels: list[int]
    """Class of each example, B entries."""

    @property
    def padded_tokens(self) -> int:
        """B x M, the tokens that plain split learning would send."""
        return self.inputs["attention_mask"].numel()


class TokenizedExamples:
    """All examples of one part as tokens.

    Args:
        examples: texts and labels.
        tokenizer: of the model.
        max_length: tokens of an example; the rest is cut off.
    """

    def __init__(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> None:
        columns = list(zip(*(example.texts for example in examples), strict=True))
        encoded = tokenizer(
            *map(list, columns), truncation=True, max_length=max_length, padding=False
        )
        self._columns: dict[str, list[list[int]]] = dict(encoded)
        self._labels = [example.label for example in examples]
        self._padding = {"input_ids": tokenizer.pad_token_id}

    def __len__(self) -> int:
        return len(self._labels)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all examples once in their own order."""
        return self._batches(list(range(len(self))), batch_size)

    def shuffled(self, batch_size: int, *, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield all examples once in the order that seed and epoch (from 0) give."""
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self), generator=generator).tolist()
        return self._batches(order, batch_size)

    def _batches(self, order: list[int], batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(order), batch_size):
            yield self._batch(order[start : start + batch_size])

    def _batch(self, rows: list[int]) -> Batch:
        inputs = {
            name: torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(column[row]) for row in rows],
                batch_first=True,
                padding_value=self._padding.get(name, 0),
            )
            for name, column in self._columns.items()
        }
        return Batch(
            inputs=inputs,
            lengths=[len(self._columns["input_ids"][row]) for row in rows],
            labels=[self._labels[row] for row in rows],
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model folder.

    Raises:
        ModelError: the folder has none.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder} holds no tokenizer: {reason}") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer
