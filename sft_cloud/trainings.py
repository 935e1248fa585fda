"""Trainings over stored examples that go on without their edge: started, followed, forgotten."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from sft_cloud.cache import ActivationCache
from sft_cloud.failures import as_sft_error
from sft_cloud.scheduler import Scheduler
from sft_cloud.session import Session
from sft_cloud.stored import Event, Finished, Progress, Stopwatch, train_stored
from sft_common.errors import ConfigError, ProtocolError
from sft_common.plan import Plan

log = logging.getLogger(__name__)

KEPT = 100
"""Ended trainings whose events are kept for edges that come back for them."""


class Trainings:
    """All trainings of one cloud that run, or have run, without their edge.

    Args:
        scheduler: who gets the device next.
        keep: writes the trained net2 of a session to disk; says whether it did.
        cache_memory_bytes: of the examples of a session, more goes to disk.
        cache_limit_bytes: of the examples of a session, more is refused.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        keep: Callable[[Session], Awaitable[bool]],
        *,
        cache_memory_bytes: int,
        cache_limit_bytes: int,
    ) -> None:
        self._scheduler, self._keep = scheduler, keep
        self._memory, self._limit = cache_memory_bytes, cache_limit_bytes
        self._progress: dict[str, Progress] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._progress

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
        self, session: Session, cache: ActivationCache, plan: Plan, ended: Callable[[], None]
    ) -> int:
        """Start a training; returns the number of its steps.

        Args:
            session: with its net2; nobody else uses it any more.
            cache: its examples; closed at the end.
            plan: how long and how fast.
            ended: called when it is over, however it ends.

        Raises:
            ProtocolError: no training examples are stored.
        """
        if not cache.examples(0):
            raise ProtocolError("run came, but no training examples are stored")
        over = [name for name, progress in self._progress.items() if progress.ended]
        for name in over[: max(0, len(over) - KEPT + 1)]:
            del self._progress[name]
        progress = self._progress[session.session_id] = Progress()
        self._scheduler.spawn(self._run(session, cache, plan, progress, ended))
        return plan.total_steps(cache.examples(0))

    def follow(self, session_id: str, start: int) -> AsyncIterator[Event]:
        """Yield the events of a training from number `start` on, as they come.

        Raises:
            ConfigError: this cloud has no such training, or has forgotten it.
        """
        progress = self._progress.get(session_id)
        if progress is None:
            raise ConfigError(
                f"this cloud has no training of session {session_id[:40]!r}: it was restarted "
                "since, or has forgotten it"
            )
        return progress.follow(start)

    async def _run(
        self,
        session: Session,
        cache: ActivationCache,
        plan: Plan,
        progress: Progress,
        ended: Callable[[], None],
    ) -> None:
        events, watch = train_stored(session, cache, plan), Stopwatch()
        try:
            while (event := await self._scheduler.compute(watch.next, events)) is not None:
                await progress.add(event)
            saved = await self._keep(session)
            await progress.add(Finished(session.applied, saved, watch.seconds))
            log.info("training of session %s is done", session.session_id)
        except Exception as error:
            await progress.fail(
                as_sft_error(error, f"the training of session {session.session_id}")
            )
        finally:
            cache.close()
            ended()
