"""The training loop and the evaluation. It knows learners and plans, not gRPC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sft_common.errors import TrainingError
from sft_common.plan import Plan, micro_batches, planned_steps
from sft_edge.learners import Learner
from sft_edge.tasks.batches import Batch
from sft_edge.tasks.data import TaskData
from sft_edge.tasks.kinds import Part
from sft_edge.tasks.scoring import Score

HIGH_RATE = 3e-4
"""Rates above this one often make a pre-trained transformer diverge."""

LARGE_NUMBER = 1e6
"""Squared errors of numbers above this one leave float32's precision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What one pass over the validation parts found."""

    metric: str
    """The metric that comes first."""

    value: float
    loss: float

    metrics: dict[str, float]
    """All metrics of all parts."""


class Watcher(Protocol):
    """Is told how a run goes."""

    def stepped(
        self, step: int, epoch: int, batches: Sequence[Batch], loss: float, rate: float
    ) -> None:
        """A training step (from 1) of an epoch (from 1) is done, in micro-batches."""

    def evaluating(self, batch: Batch, verdict: Tensor) -> None:
        """The head has given its verdict on a batch."""

    def evaluated(self, step: int, epoch: int, evaluation: Evaluation) -> None:
        """The validation part was evaluated after a step."""


class Diverged(TrainingError):
    """A loss that is no number; the step that found it was not applied by either half."""

    def __init__(self, step: int, total: int, loss: float, cause: str) -> None:
        super().__init__(f"the loss is {loss} at step {step} of {total}: {cause}")
        self.step = step


def likely_cause(batches: Sequence[Batch], rate: float) -> str:
    """Say why the loss of a batch may not be finite, and what to do."""
    largest = max((abs(label) for batch in batches for label in batch.labels), default=0)
    if isinstance(largest, float) and largest > LARGE_NUMBER:
        return f"the numbers to learn go up to {largest:g}; scale them to a few units"
    if rate > HIGH_RATE:
        return f"a learning rate of {rate:g} is high for fine-tuning; choose a lower one"
    return "the weights have grown too large; choose a lower --learning-rate or another --seed"


def train(
    learner: Learner,
    data: TaskData,
    *,
    plan: Plan,
    metric: str,
    watcher: Watcher,
    done: int = 0,
) -> Evaluation:
    """Train a learner; evaluates after every epoch and after the last step.

    Args:
        learner: what is trained.
        data: training and validation parts.
        plan: how long and how fast.
        metric: the one that comes first.
        watcher: is told of every step and evaluation.
        done: steps that the learner has taken before; an evaluation behind the last of them is
            done again.

    Returns:
        The last evaluation.

    Raises:
        TrainingError: a loss is not a finite number.
    """
    lengths = data.train.all_lengths()
    total = plan.total_steps(len(lengths))
    for step, epoch, rows, rate, evaluates in planned_steps(plan, lengths):
        if step > done:
            parts = micro_batches(rows, lengths, learner.micro_batches)
            batches = [data.train.batch(part) for part in parts]
            loss = learner.train_step(step, batches, rate)
            if not math.isfinite(loss):
                raise Diverged(step, total, loss, likely_cause(batches, rate))
            watcher.stepped(step, epoch, batches, loss, rate)
        if evaluates and step >= done:
            try:
                evaluation = evaluate(
                    learner,
                    data.validation,
                    batch_size=plan.batch_size,
                    metric=metric,
                    watcher=watcher,
                )
            except TrainingError as error:
                raise TrainingError(f"after step {step} of {total} {error}") from None
            watcher.evaluated(step, epoch, evaluation)
    return evaluation


def evaluate(
    learner: Learner,
    parts: Mapping[str, Part],
    *,
    batch_size: int,
    metric: str,
    watcher: Watcher,
) -> Evaluation:
    """Return the metrics of a learner on some parts, and the mean loss on the first.

    Args:
        learner: gives the verdicts.
        parts: what is put behind a metric's name -> part.
        batch_size: examples at once.
        metric: the one that comes first.
        watcher: is told of every batch.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    scores = {suffix: _score(learner, part, batch_size, watcher) for suffix, part in parts.items()}
    return combined(scores, metric)


def combined(scores: Mapping[str, Score], metric: str) -> Evaluation:
    """Return the scores of all parts as one evaluation; raises like `evaluate`."""
    first = next(iter(scores.values()))
    if not math.isfinite(first.loss):
        raise TrainingError(
            f"the validation loss is {first.loss}: the weights are too large; choose a lower "
            "--learning-rate"
        )
    values = {
        f"{name}{suffix}": value
        for suffix, score in scores.items()
        for name, value in score.metrics.items()
    }
    return Evaluation(metric=metric, value=values[metric], loss=first.loss, metrics=values)


def _score(learner: Learner, part: Part, batch_size: int, watcher: Watcher) -> Score:
    scorer = part.scorer()
    for batch, verdict in learner.predictions(part.data.in_order(batch_size)):
        watcher.evaluating(batch, verdict)
        scorer.add(batch, verdict)
    return scorer.score()
