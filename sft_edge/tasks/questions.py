"""Questions with their answers out of a context: SQuAD v1.1. It knows windows and their scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sft_common.errors import DataError
from sft_edge.tasks.batches import Batch, TokenRows
from sft_edge.tasks.checks import checked_text, require, text_of
from sft_edge.tasks.encoders import empty_rows
from sft_edge.tasks.files import Row
from sft_edge.tasks.scoring import Score
from sft_edge.tasks.spans import Question, Window, best_answers
from sft_edge.tasks.squad_metric import squad_scores
from sft_edge.tasks.table import Task


def read(task: Task, rows: Sequence[Row]) -> list[Question]:
    """Return the questions of some rows.

    Raises:
        DataError: a row lacks a column, or an answer is not where it should be.
    """
    return [_question(task, row) for row in rows]


def _question(task: Task, row: Row) -> Question:
    require(task, row, *task.columns, task.label_column)
    question, context = (text_of(row, name) for name in task.columns)
    answers = row.values[task.label_column]
    try:
        texts = tuple(checked_text(row, task.label_column, text) for text in answers["text"])
        starts = tuple(int(start) for start in answers["answer_start"])
    except (TypeError, KeyError, ValueError, OverflowError):
        texts, starts = (), ()
    if not texts or len(texts) != len(starts):
        raise DataError(
            f"{row.place}: column {task.label_column!r} must hold lists of equal length, at least "
            f"one entry each, under 'text' and 'answer_start', not {str(answers)[:80]}"
        )
    for text, start in zip(texts, starts, strict=True):
        if not text or start < 0 or context[start : start + len(text)] != text:
            raise DataError(
                f"{row.place}: answer {text[:60]!r} is not at character {start} of the context, "
                f"where {context[max(0, start) :][:20]!r} stands"
            )
    return Question(str(row.values.get("id", row.place)), question, context, texts, starts)


def tokenized(windows: Sequence[Window], tokenizer: PreTrainedTokenizerBase) -> TokenRows:
    """Return windows as rows of tokens; the labels of each are first and last token."""
    rows = empty_rows(tokenizer)
    for window in windows:
        rows.add(window.columns, [window.start, window.end])
    return rows


class AnswerScorer:
    """Exact match and F1 of the best answers: verdicts (T, 2).

    Args:
        questions: all of a part.
        windows: theirs, in the order of the verdicts.
    """

    def __init__(self, questions: Sequence[Question], windows: Sequence[Window]) -> None:
        self._questions, self._windows = questions, windows
        self._verdicts: list[Tensor] = []
        self._loss = 0.0

    def add(self, batch: Batch, verdict: Tensor) -> None:
        """Take the scores of first and last token, shape (T, 2)."""
        spans = torch.tensor(batch.labels).reshape(-1, 2)
        for scores, span in zip(verdict.cpu().split(batch.lengths), spans, strict=True):
            self._verdicts.append(scores)
            chosen = scores.double().log_softmax(dim=0).gather(0, span.unsqueeze(0))
            self._loss -= chosen.mean().item()

    def score(self) -> Score:
        """Return F1 and exact match over questions, and the mean loss over windows."""
        answers = best_answers(self._questions, self._windows, self._verdicts)
        values = squad_scores(answers, [question.answers for question in self._questions])
        return Score(
            loss=self._loss / max(1, len(self._windows)),
            metrics={"f1": values["f1"], "exact_match": values["exact_match"]},
        )
