"""A training over stored examples, and what has happened in it so far. No RPC, no messages.

The session is the same state machine as that of a live edge; here the plan drives it, one piece of
work at a time, so that the device can be shared.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sft_cloud.bounds import Labels
from sft_cloud.cache import ActivationCache
from sft_cloud.session import Session
from sft_common.errors import LimitError, SftError, TrainingError
from sft_common.plan import Plan, planned_steps

STEPPED_BYTES = 200
"""About what the event of a step takes in memory."""

STORY_BYTES = 10**9
"""What the events of one training may take."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was done."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch of a validation part was evaluated."""

    step: int
    part: int
    verdict: Tensor
    """As `Session.evaluate` gives it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The training has ended."""

    steps: int
    saved: bool
    cloud_seconds: float


Event = Stepped | Judged | Finished


def train_stored(session: Session, cache: ActivationCache, plan: Plan) -> Iterator[Event]:
    """Train by a plan; each `next` is one piece of work for the device.

    Raises:
        TrainingError: a loss is not a finite number; its step is not applied.
    """
    for step, epoch, rows, rate, evaluates in planned_steps(plan, cache.lengths(0)):
        activation_TW, lengths, labels = _batch(session, cache, 0, rows)
        loss = session.step(step, activation_TW, lengths, labels)[0].item()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {step}; choose a lower --learning-rate"
            )
        session.apply(step, rate)
        yield Stepped(step, epoch, loss, rate)
        if evaluates:
            yield from _evaluated(session, cache, step, plan.batch_size)


def _evaluated(
    session: Session, cache: ActivationCache, step: int, batch_size: int
) -> Iterator[Judged]:
    for part in cache.parts:
        examples = cache.examples(part)
        for start in range(0, examples if part else 0, batch_size):
            rows = range(start, min(start + batch_size, examples))
            activation_TW, lengths, labels = _batch(session, cache, part, rows)
            session.bounds.check_verdict(lengths, labelled=bool(labels))
            known: Sequence[int] = [int(label) for label in labels]
            yield Judged(step, part, session.evaluate(activation_TW, lengths, known))


def _batch(
    session: Session, cache: ActivationCache, part: int, rows: Sequence[int]
) -> tuple[Tensor, list[int], Labels]:
    """Read a batch, checked before: a plan's batch may be as large as the whole cache."""
    kept = cache.lengths(part)
    session.bounds.activation_shape([kept[row] for row in rows])
    return cache.batch(part, rows)


class Story(NamedTuple):
    """How much there will be to tell of a training."""

    steps: int

    size_bytes: int
    """About what its events take in memory."""


def story_of(session: Session, cache: ActivationCache, plan: Plan) -> Story:
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
    size = steps * STEPPED_BYTES + evaluations * verdicts
    if size > STORY_BYTES:
        raise LimitError(
            f"the story of {steps:,} steps and {evaluations:,} evaluations would take "
            f"{size / 1e9:,.1f} GB, the cloud keeps {STORY_BYTES / 1e9:,.1f} GB of a training; "
            "choose fewer --epochs or --max-steps, or fewer examples to evaluate on"
        )
    return Story(steps, size)


NOTHING = Story(0, 0)


class Progress:
    """The events of one training, for any number of followers, each from where it likes.

    Args:
        owner: whose training it is.
        story: what it will tell.
    """

    def __init__(self, owner: str = "", story: Story = NOTHING) -> None:
        self.owner, self.story = owner, story
        self._events: list[Event] = []
        self._error: SftError | None = None
        self._changed = asyncio.Condition()

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self._error is not None or (
            bool(self._events) and isinstance(self._events[-1], Finished)
        )

    async def add(self, event: Event) -> None:
        """Append an event."""
        async with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    async def fail(self, error: SftError) -> None:
        """End with an error."""
        async with self._changed:
            self._error = error
            self._changed.notify_all()

    async def follow(self, start: int) -> AsyncIterator[Event]:
        """Yield all events from number `start` on, waiting for those to come.

        Raises:
            SftError: the one that the training ended with.
        """
        at = start
        while not self.ended or at < len(self._events):
            async with self._changed:
                while at >= len(self._events) and not self.ended:
                    await self._changed.wait()
            for event in self._events[at:]:
                yield event
                at += 1
        if self._error is not None:
            raise self._error


class Stopwatch:
    """Adds up the seconds of pieces of work."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def next(self, events: Iterator[Event]) -> Event | None:
        """Return the next event of a training, timed; None at its end."""
        begin = time.perf_counter()
        try:
            return next(events, None)
        finally:
            self.seconds += time.perf_counter() - begin
