"""Lines that a person types -> inputs of the model, and verdicts -> answers. It knows no transport.

One line is one example: a text; two texts, or a question and its context, with a tab between; words
with spaces between; or the path of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sft_common.errors import DataError
from sft_common.model.heads import IGNORED
from sft_common.model.tokenizer import padding_of
from sft_edge.tasks import questions, texts, words
from sft_edge.tasks.batches import Dataset
from sft_edge.tasks.encoders import columns_of, empty_rows
from sft_edge.tasks.files import Row
from sft_edge.tasks.images import prepare as prepare_images
from sft_edge.tasks.kinds import Encoder
from sft_edge.tasks.spans import Question, best_answers, windows_of
from sft_edge.tasks.table import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the model says of one line."""

    prediction: Any
    """The name of a class, a number, a piece of the context, or one tag for each word."""

    probability: float | None = None
    """Of the class predicted."""


Verdicts = Sequence[Tensor]
"""What the head said of each example (`Head.verdict`): (C,), or (T, C) for each token."""


class Predictor(Protocol):
    """Lines as a data set, and what the verdicts on it mean."""

    data: Dataset

    def answers(self, verdicts: Verdicts) -> list[Answer]:
        """Return an answer for each line."""


class _Classes:
    """A class for each text."""

    def __init__(self, task: Task, parts: list[list[str]], encoder: Encoder) -> None:
        self._labels = task.labels
        self.data: Dataset = self._dataset(task, parts, encoder)

    def _dataset(self, task: Task, parts: list[list[str]], encoder: Encoder) -> Dataset:
        examples = [texts.Example(tuple(part), 0) for part in parts]
        return texts.tokenized(examples, encoder.tool, encoder.max_length)

    def answers(self, verdicts: Verdicts) -> list[Answer]:
        return [self._likeliest(verdict.double().softmax(dim=-1)) for verdict in verdicts]

    def _likeliest(self, probabilities: Tensor) -> Answer:
        best = int(probabilities.argmax())
        return Answer(prediction=self._labels[best], probability=probabilities[best].item())


class _Images(_Classes):
    """A class for each image."""

    def _dataset(self, task: Task, parts: list[list[str]], encoder: Encoder) -> Dataset:
        (column,), label = task.columns, task.label_column
        rows = [Row(part[0], {column: part[0], label: task.labels[0]}) for part in parts]
        return prepare_images(task, rows, encoder.tool, encoder.max_length, Path())


class _Numbers(_Classes):
    """A number for each pair of texts."""

    def answers(self, verdicts: Verdicts) -> list[Answer]:
        return [Answer(prediction=verdict.item()) for verdict in verdicts]


class _Tags:
    """A tag for each word, that of its first token; None for a word that has no token."""

    def __init__(self, task: Task, parts: list[list[str]], encoder: Encoder) -> None:
        self._labels = task.labels
        asked = [part[0].split() for part in parts]
        data, self._firsts = words.to_predict(asked, encoder.tool, encoder.max_length)
        self.data: Dataset = data

    def answers(self, verdicts: Verdicts) -> list[Answer]:
        pairs = zip(self._firsts, verdicts, strict=True)
        return [Answer(prediction=self._tags(*pair)) for pair in pairs]

    def _tags(self, firsts: list[int | None], verdict: Tensor) -> list[str | None]:
        numbers = verdict.argmax(dim=-1).tolist()
        return [None if at is None else self._labels[numbers[at]] for at in firsts]


class _Answers:
    """A piece of the context for each question."""

    def __init__(self, task: Task, parts: list[list[str]], encoder: Encoder) -> None:
        self._asked = [Question("", question, context, (), ()) for question, context in parts]
        self._windows = windows_of(self._asked, encoder.tool, encoder.max_length)
        self.data: Dataset = questions.tokenized(self._windows, encoder.tool)

    def answers(self, verdicts: Verdicts) -> list[Answer]:
        found = best_answers(self._asked, self._windows, verdicts)
        return [Answer(prediction=text) for text in found]


_PREDICTORS: dict[str, Callable[[Task, list[list[str]], Encoder], Predictor]] = {
    "text": _Classes,
    "similarity": _Numbers,
    "words": _Tags,
    "question": _Answers,
    "image": _Images,
}
"""Kind of a task -> what predicts; running text is gone on with instead."""


def predictor_for(task: Task, lines: Sequence[str], encoder: Encoder) -> Predictor:
    """Return what turns lines into a data set, and verdicts into answers.

    Args:
        task: with its classes known.
        lines: one example each.
        encoder: of the model.

    Raises:
        DataError: a line has not the parts that the task needs; names its number.
    """
    parts = [_parts(task, line, number) for number, line in enumerate(lines, start=1)]
    return _PREDICTORS[task.kind](task, parts, encoder)


def continuation_rows(lines: Sequence[str], encoder: Encoder) -> list[list[int]]:
    """Return the tokens of texts that a language model is to go on with, without an end."""
    tool = encoder.tool
    ends = {tool.eos_token_id, tool.sep_token_id}
    rows = []
    for ids in tool(list(lines), padding=False)["input_ids"]:
        without_end = ids[:-1] if len(ids) > 1 and ids[-1] in ends else ids
        rows.append(without_end or [padding_of(tool)])
    return rows


def continuation_set(rows: Sequence[Sequence[int]], encoder: Encoder) -> Dataset:
    """Return rows of tokens, the last `max_length` of each, as a data set without labels."""
    made = empty_rows(encoder.tool)
    for ids in rows:
        last = list(ids)[-encoder.max_length :]
        made.add(columns_of(encoder.tool, last), [IGNORED] * len(last))
    return made


def _parts(task: Task, line: str, number: int) -> list[str]:
    """Return the texts of a line: as many as the task has columns."""
    parts = [part.strip() for part in line.split("\t")]
    if len(parts) != len(task.columns) or not all(parts):
        raise DataError(
            f"line {number}: task {task.name} needs {', '.join(task.columns)}, with tabs between; "
            f"found are {sum(map(bool, parts))}: {line[:60]!r}"
        )
    return parts
