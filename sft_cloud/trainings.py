"""Trainings over stored examples that go on without their edge: started, followed, forgotten."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from sft_cloud.cache import ActivationCache
from sft_cloud.failures import as_sft_error
from sft_cloud.fairness import Share
from sft_cloud.hosted import Hosted
from sft_cloud.logs import set_about
from sft_cloud.metrics import Metrics
from sft_cloud.scheduler import Scheduler
from sft_cloud.session import Session
from sft_cloud.stored import (
    STORY_BYTES,
    Event,
    Finished,
    Progress,
    Stepped,
    Stopwatch,
    story_of,
    train_stored,
)
from sft_common.errors import ConfigError, ProtocolError
from sft_common.plan import Plan

log = logging.getLogger(__name__)

KEPT = 100
"""Ended trainings whose events are kept for edges that come back for them."""


KEPT_BYTES = 2 * STORY_BYTES
"""What the events of all trainings may take; beyond it those that ended first are forgotten."""


class Trainings:
    """All trainings of one cloud that run, or have run, without their edge.

    Args:
        scheduler: who gets the device next.
        cache_memory_bytes: of the examples of a session, more goes to disk.
        cache_limit_bytes: of the examples of a session, more is refused.
        metrics: counts what they do.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        cache_memory_bytes: int,
        cache_limit_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._scheduler, self._metrics = scheduler, metrics
        self._memory, self._limit = cache_memory_bytes, cache_limit_bytes
        self._progress: dict[str, Progress] = {}

    def total_steps(self, session_id: str, owner: str) -> int | None:
        """Return how many steps a training has that was started before; None if there is none."""
        progress = self._progress.get(session_id)
        return progress.story.steps if progress and progress.owner == owner else None

    def new_cache(self, session: Session) -> ActivationCache:
        """Return an empty cache for the examples of a session."""
        return ActivationCache(
            session.bounds.width,
            session.spec.encoding,
            memory_bytes=self._memory,
            limit_bytes=self._limit,
            numbers=session.spec.head == "regression",
        )

    def start(
        self,
        hosted: Hosted,
        plan: Plan,
        keep: Callable[[Hosted], Awaitable[bool]],
        ended: Callable[[Hosted], None],
    ) -> int:
        """Start a training; returns the number of its steps.

        Args:
            hosted: with its net2 and its examples; nobody else uses them any more.
            plan: how long and how fast.
            keep: writes the trained net2 to disk; says whether it did.
            ended: called when it is over, however it ends.

        Raises:
            ProtocolError: no training examples are stored.
            ConfigError, LimitError: more steps or evaluations than the cloud can tell of.
        """
        cache, name = hosted.cache, hosted.record.session
        if cache is None or not cache.examples(0):
            raise ProtocolError("run came, but no training examples are stored")
        story = story_of(hosted.session, cache, plan)
        self._forget(story.size_bytes)
        progress = self._progress[name] = Progress(hosted.record.owner, story)
        hosted.training = True
        self._scheduler.spawn(self._run(hosted, cache, plan, progress, keep, ended))
        return story.steps

    def _forget(self, more: int) -> None:
        """Make room for so many more bytes of events, as far as trainings have ended."""
        over = [name for name, progress in self._progress.items() if progress.ended]
        size = more + sum(progress.story.size_bytes for progress in self._progress.values())
        while over and (len(over) >= KEPT or size > KEPT_BYTES):
            size -= self._progress.pop(over.pop(0)).story.size_bytes

    def follow(self, session_id: str, start: int, owner: str) -> AsyncIterator[Event]:
        """Yield the events of a training from number `start` on, as they come.

        Raises:
            ConfigError: this cloud has no such training of that owner, or has forgotten it.
        """
        progress = self._progress.get(session_id)
        if progress is None or progress.owner != owner:
            raise ConfigError(
                f"this cloud has no training of session {session_id[:40]!r}: it was restarted "
                "since, or has forgotten it"
            )
        return progress.follow(start)

    def forget(self, session_id: str) -> None:
        """Forget what is known of a training that has ended."""
        self._progress.pop(session_id, None)

    async def _run(
        self,
        hosted: Hosted,
        cache: ActivationCache,
        plan: Plan,
        progress: Progress,
        keep: Callable[[Hosted], Awaitable[bool]],
        ended: Callable[[Hosted], None],
    ) -> None:
        session, name = hosted.session, hosted.record.session
        events, watch = train_stored(session, cache, plan), Stopwatch()
        take, share = partial(watch.next, events), Share()
        set_about(hosted.about)
        try:
            while (event := await self._scheduler.compute_for(share, take)) is not None:
                if hosted.deleted is not None:
                    raise hosted.deleted
                self._count(hosted, event)
                await progress.add(event)
            saved = await keep(hosted)
            await progress.add(Finished(session.applied, saved, watch.seconds))
            log.info("training of session %s is done", name)
        except Exception as error:
            await progress.fail(as_sft_error(error, f"the training of session {name}"))
        finally:
            cache.close()
            ended(hosted)

    def _count(self, hosted: Hosted, event: Event) -> None:
        if isinstance(event, Stepped):
            self._metrics.steps += 1
            hosted.about.step = event.step
            hosted.figures.stepped(time.monotonic())
        else:
            self._metrics.evaluations += 1
