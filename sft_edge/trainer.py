"""The training loop: order of batches, schedule, evaluation. It knows learners, not gRPC."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sft_common.errors import TrainingError
from sft_edge.learners import Learner
from sft_edge.tasks.batches import Batch, TokenizedExamples
from sft_edge.tasks.metrics import METRICS

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises (released code of SFT)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How long and how fast to train."""

    epochs: int
    """Passes over the training part, at least 1."""

    max_steps: int | None = None
    """Stop after so many steps; None runs all epochs."""

    batch_size: int
    """Examples of one step."""

    learning_rate: float
    """Peak rate."""

    seed: int
    """Seed of the order of batches."""

    def total_steps(self, examples: int) -> int:
        """Return the number of steps for so many training examples."""
        steps = self.epochs * math.ceil(examples / self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What one pass over the validation part found."""

    metric: str
    value: float
    loss: float


class Watcher(Protocol):
    """Is told how a run goes."""

    def stepped(self, step: int, epoch: int, batch: Batch, loss: float, rate: float) -> None:
        """A training step (from 1) of an epoch (from 1) is done."""

    def evaluating(self, batch: Batch) -> None:
        """A batch is about to be evaluated."""

    def evaluated(self, step: int, epoch: int, evaluation: Evaluation) -> None:
        """The validation part was evaluated after a step."""


def learning_rate_at(step: int, total: int, peak: float) -> float:
    """Return the rate of a step (from 1): linear rise over 10 % of the steps, then linear fall.

    As in the released code of SFT, counted so that step `k` is the schedule's (k - 1)-th update.
    """
    done, warm_up = step - 1, int(WARM_UP * total)
    if done < warm_up:
        return peak * done / warm_up
    return peak * (total - done) / (total - warm_up)


def train(
    learner: Learner,
    data: TokenizedExamples,
    validation: TokenizedExamples,
    *,
    plan: Plan,
    metric: str,
    watcher: Watcher,
) -> Evaluation:
    """Train a learner; evaluates after every epoch and after the last step.

    Returns:
        The last evaluation.

    Raises:
        TrainingError: a loss is not a finite number.
    """
    total = plan.total_steps(len(data))
    for step, epoch, batch, last_of_epoch in _numbered(data, plan, total):
        rate = learning_rate_at(step, total, plan.learning_rate)
        loss = learner.train_step(step, batch, rate)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {step}; choose a lower --learning-rate"
            )
        watcher.stepped(step, epoch, batch, loss, rate)
        if last_of_epoch or step == total:
            evaluation = evaluate(
                learner, validation, batch_size=plan.batch_size, metric=metric, watcher=watcher
            )
            watcher.evaluated(step, epoch, evaluation)
    return evaluation


def evaluate(
    learner: Learner, data: TokenizedExamples, *, batch_size: int, metric: str, watcher: Watcher
) -> Evaluation:
    """Return metric and mean cross entropy of a learner on a part.

    Raises:
        TrainingError: the cross entropy is not a finite number.
    """
    predictions: list[int] = []
    labels: list[int] = []
    loss = 0.0
    for batch in data.in_order(batch_size):
        watcher.evaluating(batch)
        log_probabilities = learner.predict(batch).cpu().double().log_softmax(dim=-1)
        loss -= sum(log_probabilities[i, label].item() for i, label in enumerate(batch.labels))
        predictions += log_probabilities.argmax(dim=-1).tolist()
        labels += batch.labels
    if not math.isfinite(loss):
        raise TrainingError(f"the validation loss is {loss}; choose a lower --learning-rate")
    value = METRICS[metric](labels, predictions)
    return Evaluation(metric=metric, value=value, loss=loss / len(labels))


def _numbered(
    data: TokenizedExamples, plan: Plan, total: int
) -> Iterator[tuple[int, int, Batch, bool]]:
    """Yield (step, epoch, batch, whether it is the epoch's last), steps and epochs from 1."""
    per_epoch = math.ceil(len(data) / plan.batch_size)
    step = 0
    for epoch in range(plan.epochs):
        for batch in data.shuffled(plan.batch_size, seed=plan.seed, epoch=epoch):
            if step == total:
                return
            step += 1
            yield step, epoch + 1, batch, step % per_epoch == 0
