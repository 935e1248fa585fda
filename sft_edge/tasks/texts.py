"""Texts and pairs of texts with a class or a number. It knows the tokenizer, not the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from sft_common.model.tokenizer import padding_of
from sft_edge.tasks.batches import TokenRows
from sft_edge.tasks.checks import class_of, number_of, require, text_of
from sft_edge.tasks.encoders import columns_of, empty_rows
from sft_edge.tasks.files import Row
from sft_edge.tasks.table import Task

_TOKENIZED_AT_ONCE = 10_000


class Example(NamedTuple):
    """One text or pair of texts with its class or number."""

    texts: tuple[str, ...]
    label: float


def classified(task: Task, rows: Sequence[Row]) -> list[Example]:
    """Return the examples of a classification.

    Raises:
        DataError: a row lacks a column or has a wrong value in it.
    """
    return [
        Example(_texts(task, row), class_of(task, row, row.values[task.label_column]))
        for row in rows
    ]


def rated(task: Task, rows: Sequence[Row]) -> list[Example]:
    """Return the examples of a regression; raises like `classified`."""
    return [Example(_texts(task, row), number_of(row, task.label_column)) for row in rows]


def tokenized(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    numbers: bool = False,
) -> TokenRows:
    """Return examples as rows of tokens.

    Args:
        examples: texts and labels.
        tokenizer: of the model.
        max_length: tokens of an example; the rest is cut off.
        numbers: whether labels are numbers instead of classes.
    """
    rows = empty_rows(tokenizer, numbers=numbers)
    for start in range(0, len(examples), _TOKENIZED_AT_ONCE):
        some = examples[start : start + _TOKENIZED_AT_ONCE]
        encoded = tokenizer(
            *map(list, zip(*(example.texts for example in some), strict=True)),
            truncation=True,
            max_length=max_length,
            padding=False,
        )
        for at, example in enumerate(some):
            label = example.label if numbers else int(example.label)
            columns = {name: column[at] for name, column in encoded.items()}
            if not columns["input_ids"]:  # an empty text, for a tokenizer that frames nothing
                columns = columns_of(tokenizer, [padding_of(tokenizer)])
            rows.add(columns, [label])
    return rows


def _texts(task: Task, row: Row) -> tuple[str, ...]:
    require(task, row, *task.columns, task.label_column)
    return tuple(text_of(row, name) for name in task.columns)
