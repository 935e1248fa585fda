"""Running text for a causal language model: each token's label is the next one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from transformers import PreTrainedTokenizerBase

from sft_common.errors import DataError
from sft_common.model.heads import IGNORED
from sft_edge.tasks.batches import TokenRows
from sft_edge.tasks.checks import require, text_of
from sft_edge.tasks.encoders import columns_of, empty_rows
from sft_edge.tasks.files import Row
from sft_edge.tasks.table import Task


def read(task: Task, rows: Sequence[Row]) -> list[str]:
    """Return the texts of some rows.

    Raises:
        DataError: a row lacks the column or holds no text in it.
    """
    (column,) = task.columns
    for row in rows:
        require(task, row, column)
    return [text_of(row, column) for row in rows]


def tokenized(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenRows:
    """Return texts as rows of `max_length` tokens, one text after another, an end between them.

    The label of the last token of a row is the first of the next row; only the very last has none.

    Raises:
        DataError: there are fewer than two tokens.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoded = tokenizer(list(texts), padding=False)["input_ids"]
    stream: list[int] = list(chain.from_iterable([*ids, *end] for ids in encoded))
    if len(stream) < 2:
        raise DataError("the texts of a part have fewer than two tokens: nothing can be predicted")
    following = [*stream[1:], IGNORED]
    rows = empty_rows(tokenizer)
    for start in range(0, len(stream), max_length):
        span = slice(start, start + max_length)
        ids, labels = stream[span], following[span]
        if any(label != IGNORED for label in labels):
            rows.add(columns_of(tokenizer, ids), labels)
    return rows
