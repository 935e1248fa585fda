"""Examples -> tokens -> batches in a seeded order. It knows the tokenizer, not the model.

Legend: B batch, M padded length of the batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft_common.errors import ModelError, first_line
from sft_common.wire.packing import mask_of
from sft_edge.tasks.examples import Example

_TOKENIZED_AT_ONCE = 10_000
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")


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
    """All examples of one part as tokens, kept flat: a few bytes a token, however many texts.

    Args:
        examples: texts and labels.
        tokenizer: of the model.
        max_length: tokens of an example; the rest is cut off.
    """

    def __init__(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> None:
        names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
        self._columns: dict[str, array[int]] = {name: array("i") for name in names}
        self._starts = array("q", [0])
        for start in range(0, len(examples), _TOKENIZED_AT_ONCE):
            texts = [example.texts for example in examples[start : start + _TOKENIZED_AT_ONCE]]
            encoded = tokenizer(
                *map(list, zip(*texts, strict=True)),
                truncation=True,
                max_length=max_length,
                padding=False,
            )
            for row in range(len(texts)):
                for name, column in self._columns.items():
                    column.extend(encoded[name][row])
                self._starts.append(self._starts[-1] + len(encoded["input_ids"][row]))
        self._labels = array("i", (example.label for example in examples))
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
        spans = [slice(self._starts[row], self._starts[row + 1]) for row in rows]
        lengths = [span.stop - span.start for span in spans]
        inputs = {
            name: pad_sequence(
                [torch.tensor(column[span], dtype=torch.long) for span in spans],
                batch_first=True,
                padding_value=self._padding.get(name, 0),
            )
            for name, column in self._columns.items()
        }
        inputs["attention_mask"] = mask_of(lengths, max(lengths)).long()
        return Batch(inputs=inputs, lengths=lengths, labels=[self._labels[row] for row in rows])


def load_tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model folder.

    Args:
        folder: of the model.
        vocabulary: token ids that the model's embeddings have.

    Raises:
        ModelError: the folder has no tokenizer, or one with more ids than the model.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        # transformers would make up an empty vocabulary without a word.
        raise ModelError(
            f"{folder} holds no tokenizer: one of {', '.join(_TOKENIZER_FILES)} is needed"
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read the tokenizer in {folder}: {first_line(error)}") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, "
            f"its model's embeddings {vocabulary}; get the folder anew"
        )
    return tokenizer
