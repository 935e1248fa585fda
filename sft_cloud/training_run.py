"""One training over stored examples, from where it is to its end, or until the cloud stops."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sft_cloud.cache import ActivationCache
from sft_cloud.failures import as_sft_error
from sft_cloud.fairness import Share
from sft_cloud.hosted import Hosted
from sft_cloud.logs import set_about
from sft_cloud.metrics import Metrics
from sft_cloud.residents import Residents
from sft_cloud.results import Results
from sft_cloud.scheduler import Scheduler
from sft_cloud.stored import Stopwatch, train_stored
from sft_cloud.story import Event, Finished, Stepped, Story, judged_behind
from sft_cloud.training_files import FINAL, TrainingFiles
from sft_common.errors import (
    RetryLaterError,
    SftError,
    SnapshotError,
    first_line,
)
from sft_common.plan import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingLimits:
    """What a cloud gives trainings that go on without their edge."""

    examples_bytes: int = 16 * 2**30
    """Of the examples of a session, more is refused."""

    snapshots: int = 2
    """Snapshots of each that are kept."""

    snapshot_seconds: float = 60.0
    """Between two of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Around:
    """What all trainings of a cloud share."""

    scheduler: Scheduler
    residents: Residents
    results: Results
    limits: TrainingLimits
    metrics: Metrics

    stopping: Callable[[], RetryLaterError | None]
    """Why to go no further; None: go on."""


class TrainingRun:
    """A training in memory.

    Args:
        around: what it shares with others.
        hosted: with its net2, which may have come some way; nobody else uses it any more.
        cache: its examples.
        plan: how long and how fast.
        story: what has happened, and is to be told.
        files: where it is kept; None: it ends with this process.
        seconds: that the device has worked on it before.
    """

    def __init__(
        self,
        around: Around,
        hosted: Hosted,
        cache: ActivationCache,
        plan: Plan,
        story: Story,
        files: TrainingFiles | None,
        seconds: float = 0.0,
    ) -> None:
        self._around, self.hosted, self._cache = around, hosted, cache
        self._plan, self.story, self._files = plan, story, files
        self._session, self._name = hosted.session, hosted.record.session
        self._watch = Stopwatch(seconds)

    async def begin(self) -> None:
        """Write what it needs to go on without this process.

        Raises:
            CapacityError: the disk does not take it.
        """
        if self._files is not None:
            await self._around.scheduler.files(
                self._files.begin,
                self.hosted.record,
                self._plan,
                self.story.size,
                self._cache,
                self._session,
            )

    async def run(self) -> None:
        """Train, and free the session's memory; whatever happens is told by the story."""
        judged = judged_behind(self.story.events, self._session.applied)
        events = train_stored(self._session, self._cache, self._plan, judged)
        # No edge waits for it: its own time is none.
        take, share = partial(self._watch.next, events), Share(own_seconds=0.0)
        compute, limits = self._around.scheduler.compute_for, self._around.limits
        set_about(self.hosted.about)
        kept = time.monotonic()
        try:
            while (event := await compute(share, take)) is not None:
                self._count(event)
                await self.story.add(event)
                if self.hosted.deleted is not None:
                    raise self.hosted.deleted
                if (stopping := self._around.stopping()) is not None:
                    await self._keep()
                    raise stopping
                if time.monotonic() - kept >= limits.snapshot_seconds:
                    await self._keep()
                    kept = time.monotonic()
            await self._finish()
        except Exception as error:
            await self._fail(as_sft_error(error, f"the training of session {self._name}"))
        finally:
            self._cache.release()
            self._around.residents.drop(self.hosted)

    async def _keep(self) -> None:
        """Write a snapshot; a disk that does not take it costs only that."""
        if self._files is None:
            return
        count, files = self._around.limits.snapshots, self._around.scheduler.files
        events, seconds = self.story.events, self._watch.seconds
        try:
            with self._around.metrics.snapshot():
                await files(self._files.keep, self._session, events, seconds, count)
            self.hosted.kept = self._session.applied
        except SnapshotError as error:
            log.warning("session %s: %s", self._name, error)

    async def _finish(self) -> None:
        """Keep what was trained, and how it came to be; then only is it told."""
        weights = await self._around.results.weights_to_keep(self.hosted)
        saved, seconds = weights is not None, self._watch.seconds
        finished = Finished(self._session.applied, saved, seconds)
        await self._tell(finished)
        if weights is not None:
            await self._around.results.keep(self.hosted, weights)
        await self._clear()
        await self.story.add(finished)
        log.info("training of session %s is done", self._name)

    async def _fail(self, error: SftError) -> None:
        """Tell why it ended; one that would end so again does not go on in another process."""
        try:
            if type(error).__name__ in FINAL:
                await self._tell(error)
                await self._clear()
        except SftError as untold:
            log.warning("session %s: %s", self._name, untold)
        finally:
            await self.story.fail(error)

    async def _tell(self, end: Finished | SftError) -> None:
        if self._files is not None:
            story, files = self.story, self._around.scheduler.files
            await files(self._files.tell, story.size, story.events, end)

    async def _clear(self) -> None:
        """Delete what only a training that goes on needs; what stays does no harm."""
        if self._files is not None:
            try:
                await self._around.scheduler.files(self._files.end)
            except (OSError, SnapshotError) as error:
                log.warning("session %s: %s", self._name, first_line(error))

    def _count(self, event: Event) -> None:
        metrics, hosted = self._around.metrics, self.hosted
        if isinstance(event, Stepped):
            metrics.steps += 1
            hosted.about.step = event.step
            hosted.figures.stepped(time.monotonic())
        else:
            metrics.evaluations += 1
