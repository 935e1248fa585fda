"""Words with a tag each (named entities, parts of speech). It knows the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from sft_common.errors import DataError, ModelError
from sft_common.model.heads import IGNORED
from sft_common.model.tokenizer import padding_of
from sft_edge.tasks.batches import TokenRows
from sft_edge.tasks.checks import checked_text, class_of, list_of, require
from sft_edge.tasks.encoders import columns_of, empty_rows
from sft_edge.tasks.files import Row
from sft_edge.tasks.table import Task


class Sentence(NamedTuple):
    """Words and the class of each, -100 for none."""

    words: list[str]
    tags: list[int]


def tags_of(task: Task, rows: Sequence[Row]) -> Iterator[Any]:
    """Yield the tags of all words, to find out which classes there are.

    Raises:
        DataError: a row lacks a column.
    """
    for row in rows:
        require(task, row, *task.columns, task.label_column)
        yield from list_of(row, task.label_column)


def tagged(task: Task, rows: Sequence[Row]) -> list[Sentence]:
    """Return the sentences of some rows; those without words are left out.

    Raises:
        DataError: a row lacks a column, has a wrong value, or not one tag for each word.
    """
    sentences = [_sentence(task, row) for row in rows]
    return [sentence for sentence in sentences if sentence.words]


def _sentence(task: Task, row: Row) -> Sentence:
    require(task, row, *task.columns, task.label_column)
    (column,) = task.columns
    words = [checked_text(row, column, word) for word in list_of(row, column)]
    tags = [
        IGNORED if str(tag) == str(IGNORED) else class_of(task, row, tag)
        for tag in list_of(row, task.label_column)
    ]
    if len(words) != len(tags):
        raise DataError(
            f"{row.place}: {len(words)} words in column {column!r}, but {len(tags)} tags in "
            f"{task.label_column!r}; every word needs one"
        )
    return Sentence(words, tags)


def tokenized(
    sentences: Sequence[Sentence], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenRows:
    """Return sentences as rows of tokens; the first token of a word carries its tag.

    Words beyond `max_length` tokens are cut off; a sentence of which nothing remains is left out.

    Raises:
        ModelError: the tokenizer does not say which word a token is of.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "token classification needs a fast tokenizer: a folder with tokenizer.json"
        )
    rows = empty_rows(tokenizer)
    for sentence in sentences:
        encoded = tokenizer(
            sentence.words, is_split_into_words=True, truncation=True, max_length=max_length
        )
        labels = _first_tokens(encoded.word_ids(), sentence.tags)
        if any(label != IGNORED for label in labels):
            rows.add(dict(encoded), labels)
    return rows


def _first_tokens(words: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    return [
        IGNORED if word is None or (at and words[at - 1] == word) else tags[word]
        for at, word in enumerate(words)
    ]


def to_predict(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[TokenRows, list[list[int | None]]]:
    """Return sentences as rows of tokens, and for each of its words the first token.

    A word that the tokenizer drops, or that was cut off, has none; no sentence is left out.
    """
    rows, firsts = empty_rows(tokenizer), []
    for sentence in sentences:
        encoded = tokenizer(
            list(sentence), is_split_into_words=True, truncation=True, max_length=max_length
        )
        of_token = encoded.word_ids()
        firsts.append([of_token.index(n) if n in of_token else None for n in range(len(sentence))])
        columns = dict(encoded)
        if not columns["input_ids"]:
            columns = columns_of(tokenizer, [padding_of(tokenizer)])
        rows.add(columns, [IGNORED] * len(columns["input_ids"]))
    return rows, firsts
