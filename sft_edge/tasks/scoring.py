"""What a model's verdicts on a validation part are worth. It knows labels, not models.

Legend: B batch, T real tokens, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sft_common.model.heads import IGNORED
from sft_edge.tasks import metrics
from sft_edge.tasks.batches import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The outcome of one pass over a validation part."""

    loss: float
    """Mean over the examples, or over the labelled tokens where each has its own loss."""

    metrics: dict[str, float]
    """Name -> value."""


class Scorer(Protocol):
    """Collects the verdicts of one pass, in the order of the part."""

    def add(self, batch: Batch, verdict: Tensor) -> None:
        """Take what the head said of a batch (`Head.verdict`)."""

    def score(self) -> Score:
        """Return the outcome."""


class ClassScorer:
    """One class for each example: verdicts (B, C).

    Args:
        names: metrics to compute, the first one first.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._labels: list[int] = []
        self._predictions: list[int] = []
        self._loss = 0.0

    def add(self, batch: Batch, verdict: Tensor) -> None:
        """Take logits, shape (B, C)."""
        labels = torch.tensor(batch.labels, dtype=torch.long)
        self._take(verdict.cpu().double().log_softmax(dim=-1), labels)

    def _take(self, log_probabilities: Tensor, labels: Tensor) -> None:
        self._loss -= log_probabilities.gather(-1, labels.unsqueeze(-1)).sum().item()
        self._predictions += log_probabilities.argmax(dim=-1).tolist()
        self._labels += labels.tolist()

    def score(self) -> Score:
        """Return the metrics and the mean cross entropy."""
        values = {n: metrics.METRICS[n](self._labels, self._predictions) for n in self._names}
        return Score(loss=self._loss / max(1, len(self._labels)), metrics=values)


class NumberScorer:
    """One number for each example: verdicts (B, 1); rank and linear correlation."""

    def __init__(self) -> None:
        self._numbers: list[float] = []
        self._predictions: list[float] = []

    def add(self, batch: Batch, verdict: Tensor) -> None:
        """Take predictions, shape (B, 1)."""
        self._predictions += verdict.cpu().double().squeeze(-1).tolist()
        self._numbers += batch.labels

    def score(self) -> Score:
        """Return both correlations and the mean squared error."""
        pairs = zip(self._numbers, self._predictions, strict=True)
        return Score(
            loss=sum((a - b) ** 2 for a, b in pairs) / max(1, len(self._numbers)),
            metrics={
                "spearman": metrics.spearman(self._numbers, self._predictions),
                "pearson": metrics.pearson(self._numbers, self._predictions),
            },
        )


class TagScorer(ClassScorer):
    """One class for each labelled token: verdicts (T, C); also F1 of whole entities.

    Args:
        tags: names of the classes; those like B-PER and I-PER make up entities.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__("accuracy")
        self._tags = tags
        self._ends: list[int] = []

    def add(self, batch: Batch, verdict: Tensor) -> None:
        """Take logits, shape (T, C)."""
        labels = torch.tensor(batch.labels, dtype=torch.long)
        real = labels != IGNORED
        self._take(verdict.cpu().double().log_softmax(dim=-1)[real], labels[real])
        done = len(self._labels) - int(real.sum())
        for of_example in real.split(batch.lengths):
            done += int(of_example.sum())
            self._ends.append(done)

    def score(self) -> Score:
        """Return F1 of entities if there can be any, accuracy of tokens, mean cross entropy."""
        plain = super().score()
        if not metrics.are_entities(self._tags):
            return plain
        starts = [0, *self._ends[:-1]]
        spans = [slice(start, end) for start, end in zip(starts, self._ends, strict=True)]

        def named(numbers: list[int]) -> list[list[str]]:
            return [[self._tags[n] for n in numbers[span]] for span in spans]

        f1 = metrics.entity_f1(named(self._labels), named(self._predictions))
        return Score(loss=plain.loss, metrics={"f1": f1, **plain.metrics})


class LossScorer:
    """One loss for each token (T,), 0 where there is none: perplexity."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def add(self, batch: Batch, verdict: Tensor) -> None:
        """Take losses, shape (T,)."""
        self._sum += verdict.double().sum().item()
        self._count += sum(label != IGNORED for label in batch.labels)

    def score(self) -> Score:
        """Return the perplexity and the mean loss."""
        loss = self._sum / max(1, self._count)
        perplexity = math.exp(min(loss, 700))
        return Score(loss=loss, metrics={"perplexity": perplexity})
