"""Lines that a person types -> inputs of the model, and verdicts -> answers. It knows no transport.

One line is one example: a text; two texts, or a question and its context, with a tab between; words
with spaces between; or the path of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sft_common.errors import DataError
from sft_common.model.tokenizer import padding_of
from sft_edge.tasks import questions, texts, words
from sft_edge.tasks.batches import Dataset
from sft_edge.tasks.encoders import columns_of, empty_rows
from sft_edge.tasks.files import Row
from sft_edge.tasks.images import prepare as prepare_images
from sft_edge.tasks.kinds import Encoder
from sft_edge.tasks.scoring import IGNORED
from sft_edge.tasks.spans import Question, best_answers, windows_of
from sft_edge.tasks.table import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the model says of one line."""

    prediction: Any
    """The name of a class, a number, a piece of the context, or one tag for each word."""

    probability: float | None = None
    """Of the class predicted."""


class Predictor:
    """Turns lines into a data set, and the verdicts on it into answers.

    Args:
        task: with its classes known.
        lines: one example each.
        encoder: of the model.

    Raises:
        DataError: a line has not the parts that the task needs; names its number.
    """

    def __init__(self, task: Task, lines: Sequence[str], encoder: Encoder) -> None:
        self._task = task
        parts = [_parts(task, line, n) for n, line in enumerate(lines, start=1)]
        self.data: Dataset = self._dataset(parts, encoder)

    def answers(self, verdicts: Sequence[Tensor]) -> list[Answer]:
        """Return an answer for each line.

        Args:
            verdicts: what the head said of each example (`Head.verdict`): (C,), or (T, C).
        """
        match self._task.kind:
            case "question":
                found = best_answers(self._asked, self._windows, verdicts)
                return [Answer(prediction=text) for text in found]
            case "similarity":
                return [Answer(prediction=verdict.item()) for verdict in verdicts]
            case "words":
                return [self._tags(*pair) for pair in zip(self._firsts, verdicts, strict=True)]
            case _:
                return [self._class(verdict) for verdict in verdicts]

    def _dataset(self, parts: list[list[str]], encoder: Encoder) -> Dataset:
        match self._task.kind:
            case "question":
                self._asked = [Question("", q, context, (), ()) for q, context in parts]
                self._windows = windows_of(self._asked, encoder.tool, encoder.max_length)
                return questions.tokenized(self._windows, encoder.tool)
            case "words":
                asked = [part[0].split() for part in parts]
                data, self._firsts = words.to_predict(asked, encoder.tool, encoder.max_length)
                return data
            case "image":
                (column,), label = self._task.columns, self._task.label_column
                rows = [Row(part[0], {column: part[0], label: 0}) for part in parts]
                return prepare_images(self._task, rows, encoder.tool, encoder.max_length, Path())
            case _:
                examples = [texts.Example(tuple(part), 0) for part in parts]
                return texts.tokenized(examples, encoder.tool, encoder.max_length)

    def _class(self, verdict: Tensor) -> Answer:
        probabilities = verdict.double().softmax(dim=-1)
        best = int(probabilities.argmax())
        return Answer(prediction=self._task.labels[best], probability=probabilities[best].item())

    def _tags(self, firsts: list[int | None], verdict: Tensor) -> Answer:
        """Return the tag of each word, that of its first token; None for one that has no token."""
        numbers = verdict.argmax(dim=-1).tolist()
        return Answer(
            prediction=[None if at is None else self._task.labels[numbers[at]] for at in firsts]
        )


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
            f"line {number} has {len(parts)} parts, task {task.name} needs {len(task.columns)} "
            f"({', '.join(task.columns)}), with a tab between: {line[:60]!r}"
        )
    return parts
