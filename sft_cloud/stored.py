"""A training over stored examples. No RPC, no messages.

The session is the same state machine as that of a live edge; here the plan drives it, one piece of
work at a time, so that the device can be shared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from torch import Tensor

from sft_cloud.bounds import Labels
from sft_cloud.cache import ActivationCache
from sft_cloud.session import Session
from sft_cloud.story import Event, Judged, Size, Stepped
from sft_common.errors import LimitError, TrainingError
from sft_common.plan import Plan, planned_steps

STEPPED_BYTES, JUDGED_BYTES = 200, 700
"""About what the event of a step takes in memory, and that of a batch without its numbers."""

STORY_BYTES = 10**9
"""What the events of one training may take."""


def train_stored(
    session: Session, cache: ActivationCache, plan: Plan, judged: int = 0
) -> Iterator[Event]:
    """Train by a plan; each `next` is one piece of work for the device.

    Args:
        session: may have come some way by the same plan.
        cache: the examples.
        plan: how long and how fast.
        judged: batches that were evaluated already behind the step that it has come to.

    Raises:
        TrainingError: a loss is not a finite number; its step is not applied.
    """
    done = session.applied
    for step, epoch, rows, rate, evaluates in planned_steps(plan, cache.lengths(0)):
        if step > done:
            activation_TW, lengths, labels = _batch(session, cache, 0, rows)
            loss = session.step(step, activation_TW, lengths, labels)[0].item()
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {step}; choose a lower --learning-rate"
                )
            session.apply(step, rate)
            yield Stepped(step, epoch, loss, rate)
        if evaluates and step >= done:
            batches = _evaluation_batches(cache, plan.batch_size)
            for part, chosen in islice(batches, judged if step == done else 0, None):
                yield Judged(step, part, _verdict(session, cache, part, chosen))


def _evaluation_batches(cache: ActivationCache, batch_size: int) -> Iterator[tuple[int, range]]:
    """Yield part and examples of each batch of an evaluation."""
    for part in cache.parts:
        examples = cache.examples(part)
        for start in range(0, examples if part else 0, batch_size):
            yield part, range(start, min(start + batch_size, examples))


def _verdict(session: Session, cache: ActivationCache, part: int, rows: range) -> Tensor:
    activation_TW, lengths, labels = _batch(session, cache, part, rows)
    session.bounds.check_verdict(lengths, labelled=bool(labels))
    known: Sequence[int] = [int(label) for label in labels]
    return session.evaluate(activation_TW, lengths, known).cpu()


def _batch(
    session: Session, cache: ActivationCache, part: int, rows: Sequence[int]
) -> tuple[Tensor, list[int], Labels]:
    """Read a batch, checked before: a plan's batch may be as large as the whole cache."""
    kept = cache.lengths(part)
    session.bounds.activation_shape([kept[row] for row in rows])
    return cache.batch(part, rows)


def size_of_story(session: Session, cache: ActivationCache, plan: Plan) -> Size:
    """Return what a training will have to tell; refused if that would fill the memory.

    They are all kept, for followers that come late.

    Raises:
        ConfigError: more steps than any run has.
        LimitError: shows both sizes.
    """
    examples = cache.examples(0)
    steps = plan.total_steps(examples)
    evaluations = math.ceil(steps / plan.epoch_steps(examples))
    labelled = session.spec.head == "causal-lm"
    verdicts = sum(
        session.bounds.verdict_bytes(cache.lengths(part), labelled=labelled)
        for part in cache.parts
        if part
    )
    batches = sum(1 for _ in _evaluation_batches(cache, plan.batch_size))
    size = steps * STEPPED_BYTES + evaluations * (verdicts + batches * JUDGED_BYTES)
    if size > STORY_BYTES:
        raise LimitError(
            f"the story of {steps:,} steps and {evaluations:,} evaluations would take "
            f"{size / 1e9:,.1f} GB, the cloud keeps {STORY_BYTES / 1e9:,.1f} GB of a training; "
            "choose fewer --epochs or --max-steps, or fewer examples to evaluate on"
        )
    return Size(steps, size)


class Stopwatch:
    """Adds up the seconds of pieces of work.

    Args:
        seconds: to begin with.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def next(self, events: Iterator[Event]) -> Event | None:
        """Return the next event of a training, timed; None at its end."""
        begin = time.perf_counter()
        try:
            return next(events, None)
        finally:
            self.seconds += time.perf_counter() - begin
