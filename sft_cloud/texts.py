"""Public text, a text or a pair a line, as padded inputs of a model. It knows files and tokenizers.

Legend: B batch, M padded length of the batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from gzip import open as open_gzip
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sft_common.errors import DataError, first_line
from sft_common.model.tokenizer import padding_of

MOST_COLUMNS = 2

Example = tuple[str, ...]
"""A text, or a pair of them."""


def read_texts(files: Sequence[Path]) -> list[Example]:
    """Return the lines of text files, plain or .gz, that hold any text; a tab parts a pair.

    Raises:
        DataError: a file cannot be read, a line has two tabs, or there is too little text.
    """
    examples: list[Example] = []
    for file in files:
        opened = open_gzip if file.suffix == ".gz" else open
        try:
            with opened(file, "rt", encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        examples.append(_example(line, f"{file} line {number}"))
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise DataError(f"cannot read {file}: {first_line(error)}") from error
    if len(examples) < 2:
        raise DataError(f"{', '.join(map(str, files))}: {len(examples)} lines of text are too few")
    return examples


def encoded(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, Tensor]:
    """Return examples as inputs of the model, each (B, M), padded on the right.

    Args:
        examples: B of them.
        tokenizer: of the model.
        max_length: tokens of an example; the rest is cut off.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = padding_of(tokenizer)
    rows = [tokenizer(*texts, truncation=True, max_length=max_length) for texts in examples]
    padded = tokenizer.pad(rows, padding_side="right", return_tensors="pt")
    return dict(padded)


def _example(line: str, place: str) -> Example:
    columns = tuple(part.strip() for part in line.split("\t"))
    if len(columns) > MOST_COLUMNS or not all(columns):
        empty = sum(not column for column in columns)
        raise DataError(
            f"{place} has {len(columns)} columns, {empty} of them empty; a line is a text, or two "
            "with a tab between them"
        )
    return columns
