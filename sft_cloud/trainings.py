"""Trainings over stored examples that go on without their edge, and without the process too.

They are started, followed, put away when the cloud stops, and taken up again by the next process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sft_cloud.admission import Need
from sft_cloud.builder import Builder, Design, rebuilt
from sft_cloud.cache import ActivationCache
from sft_cloud.failures import as_sft_error
from sft_cloud.hosted import Hosted
from sft_cloud.metrics import Metrics
from sft_cloud.residents import Residents
from sft_cloud.results import Results
from sft_cloud.scheduler import Scheduler
from sft_cloud.session import Session
from sft_cloud.store import Record, Store
from sft_cloud.stored import STORY_BYTES, size_of_story
from sft_cloud.story import Event, Story
from sft_cloud.training_files import Begun, Reached, TrainingFiles, unfinished
from sft_cloud.training_run import Around, TrainingLimits, TrainingRun
from sft_common.errors import (
    CapacityError,
    ForbiddenError,
    ProtocolError,
    RetryLaterError,
    SessionLostError,
    SftError,
    SnapshotError,
    printable,
)
from sft_common.plan import Plan

log = logging.getLogger(__name__)

REMEMBERED = 100
"""Ended trainings whose stories stay in memory for edges that come back for them."""

REMEMBERED_BYTES = 2 * STORY_BYTES
"""What the stories of all trainings may take; beyond it those that ended first are forgotten."""

ROOM_SECONDS = 1.0
"""A training that waits for room asks for it as often."""


class Trainings:
    """All trainings of one cloud that run, or have run, without their edge.

    Args:
        builder: makes a session of one that another process has begun.
        scheduler: who gets the device next.
        residents: the sessions in memory.
        results: takes what was trained.
        limits: what they get.
        store: where they are kept; None: they end with this process.
        metrics: counts what they do.
    """

    def __init__(
        self,
        *,
        builder: Builder,
        scheduler: Scheduler,
        residents: Residents,
        results: Results,
        limits: TrainingLimits,
        store: Store | None,
        metrics: Metrics,
    ) -> None:
        self._builder, self._scheduler, self._residents = builder, scheduler, residents
        self._limits, self._store = limits, store
        self._stories: dict[str, Story] = {}
        self._reading = asyncio.Lock()
        self._at_work: set[asyncio.Task[None]] = set()
        self._stopping: RetryLaterError | None = None
        self._around = Around(
            scheduler=scheduler,
            residents=residents,
            results=results,
            limits=limits,
            metrics=metrics,
            stopping=lambda: self._stopping,
        )

    def new_cache(self, session: Session) -> ActivationCache:
        """Return an empty cache for the examples of a session.

        Raises:
            CapacityError: the disk does not take it.
        """
        path = None
        if self._store is not None:
            try:
                self._store.made(session.session_id)
            except OSError as error:
                raise CapacityError(
                    f"the cloud's disk does not take the examples: {error.strerror or error}"
                ) from error
            path = TrainingFiles(self._store, session.session_id).examples
        return ActivationCache(
            session.bounds.width,
            session.spec.encoding,
            limit_bytes=self._limits.examples_bytes,
            numbers=session.spec.head == "regression",
            path=path,
        )

    async def begin(self) -> None:
        """Go on with what another process has begun; to be called before any edge comes."""
        if self._store is None:
            return
        await self._scheduler.files(self._store.sweep)
        for record, begun in await self._scheduler.files(unfinished, self._store):
            story = self._stories[record.session] = Story(record.owner, begun.size)
            self._spawn(self._go_on(record, begun, story))

    async def start(self, hosted: Hosted, plan: Plan) -> int:
        """Start a training, once all that it needs is on disk; returns the number of its steps.

        Args:
            hosted: with its net2 and its examples; nobody else uses them any more.
            plan: how long and how fast.

        Raises:
            ProtocolError: no training examples are stored.
            ConfigError, LimitError: more steps or evaluations than the cloud can tell of.
            CapacityError: the disk does not take it.
        """
        cache, name = hosted.cache, hosted.record.session
        if cache is None or not cache.examples(0):
            raise ProtocolError("run came, but no training examples are stored")
        size = size_of_story(hosted.session, cache, plan)
        self._make_room(size.size_bytes)
        await hosted.written()
        story = self._stories[name] = Story(hosted.record.owner, size)
        run = TrainingRun(self._around, hosted, cache, plan, story, self._files(name))
        hosted.training = True
        await hosted.working(self._spawn(self._start(run)))
        return size.steps

    async def follow(self, session_id: str, start: int, owner: str) -> AsyncIterator[Event]:
        """Yield the events of a training from number `start` on, as they come.

        Raises:
            SessionLostError: this cloud has no such training of that owner.
            SftError: the one that the training ended with.
        """
        story = await self._story(session_id, owner)
        if story is None:
            raise SessionLostError(
                f"this cloud has no training of session {printable(session_id[:40])}: it was "
                "deleted, or went with a cloud that keeps nothing"
            )
        async for event in story.follow(start):
            yield event

    async def total_steps(self, session_id: str, owner: str) -> int | None:
        """Return how many steps a training has that was started before; None if there is none."""
        story = await self._story(session_id, owner)
        return story.size.steps if story else None

    def goes_on(self, session_id: str) -> bool:
        """Return whether a training has begun and not ended, in memory or not yet."""
        story = self._stories.get(session_id)
        return story is not None and not story.ended

    def forget(self, session_id: str) -> None:
        """Forget a training; one that waits for room does not go on."""
        self._stories.pop(session_id, None)

    async def stop(self, reason: RetryLaterError) -> None:
        """Put all trainings away behind what they do now; whoever follows them is told why."""
        self._stopping = reason
        while self._at_work:
            await asyncio.wait(self._at_work)

    def _files(self, session_id: str) -> TrainingFiles | None:
        return TrainingFiles(self._store, session_id) if self._store is not None else None

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task

    def _make_room(self, more: int) -> None:
        """Make room for so many more bytes of events, as far as trainings have ended."""
        over = [name for name, story in self._stories.items() if story.ended]
        size = more + sum(story.size.size_bytes for story in self._stories.values())
        while over and (len(over) >= REMEMBERED or size > REMEMBERED_BYTES):
            size -= self._stories.pop(over.pop(0)).size.size_bytes

    async def _story(self, session_id: str, owner: str) -> Story | None:
        """Return the story of a training of an owner, from the disk if it has ended before."""
        hosted = self._residents.get(session_id)
        if hosted is not None:
            await hosted.quiet()  # it may be about to begin
        elif session_id not in self._stories and self._store is not None:
            async with self._reading:
                await self._read(self._store, session_id, owner)
        story = self._stories.get(session_id)
        return story if story is not None and story.owner == owner else None

    async def _read(self, store: Store, session_id: str, owner: str) -> None:
        """Read the story of a training that has ended before, if there is one."""
        if session_id in self._stories:
            return
        try:
            story = await self._scheduler.files(_told, store, session_id, owner)
        except SftError:
            return
        if story is not None and store.has(session_id):
            self._make_room(story.size.size_bytes)
            self._stories[session_id] = story

    async def _start(self, run: TrainingRun) -> None:
        """Have a training begin; it goes on though nobody waits for this any more."""
        try:
            await run.begin()
        except Exception as error:
            run.hosted.training = False
            self.forget(run.hosted.record.session)
            await run.story.fail(as_sft_error(error, "the beginning of a training"))
            raise
        self._spawn(self._run(run))

    async def _go_on(self, record: Record, begun: Begun, story: Story) -> None:
        """Go on where another process was."""
        name = record.session
        try:
            run = await self._taken_up(record, begun, story)
        except Exception as error:
            known = as_sft_error(error, f"the training of session {name}")
            if not isinstance(known, RetryLaterError | ForbiddenError):
                log.error("the training of session %s does not go on: %s", name, known)
            await story.fail(known)
            return
        about = run.hosted.about
        log.info("training of session %s goes on at step %d", name, about.step, extra=about.extra())
        await self._run(run)

    async def _run(self, run: TrainingRun) -> None:
        await run.run()
        self._make_room(0)

    async def _taken_up(self, record: Record, begun: Begun, story: Story) -> TrainingRun:
        """Return a training of another process, in memory, as soon as there is room.

        Raises:
            SessionLostError: its files are damaged.
            SftError: it cannot be built any more, or is not wanted.
        """
        assert self._store is not None
        files = TrainingFiles(self._store, record.session)
        design = await self._scheduler.files(self._builder, record.spec)
        async with self._room_in_time(design.need, story, record.session):
            try:
                session, cache, reached = await self._scheduler.files(
                    _read_again, files, begun, design, record.session
                )
            except SnapshotError as damaged:
                raise SessionLostError(
                    f"this cloud cannot go on with session {record.session}: its files are damaged"
                ) from damaged
            try:
                self._check_wanted(story, record.session)
            except SftError:
                cache.release()
                raise
            hosted = Hosted(record, session, design.need)
            hosted.cache, hosted.training = cache, True
            self._residents.add(hosted)
        await story.add(*reached.events)
        seconds = reached.seconds
        return TrainingRun(self._around, hosted, cache, begun.plan, story, files, seconds)

    @asynccontextmanager
    async def _room_in_time(self, need: Need, story: Story, session_id: str) -> AsyncIterator[None]:
        """Reserve room as soon as there is some.

        Raises:
            LimitError: there will never be.
            SftError: the training is not wanted any more.
        """
        waits = False
        async with AsyncExitStack() as stack:
            while True:
                self._check_wanted(story, session_id)
                try:
                    await stack.enter_async_context(self._residents.room(need))
                    break
                except CapacityError as full:
                    if not waits:
                        log.info("training of session %s waits: %s", session_id, full)
                    waits = True
                await asyncio.sleep(ROOM_SECONDS)
            yield

    def _check_wanted(self, story: Story, session_id: str) -> None:
        """Give up a training that has not come into memory yet, if the cloud stops or its owner.

        Raises:
            RetryLaterError, ForbiddenError: says why.
        """
        if self._stopping is not None:
            raise self._stopping
        if self._stories.get(session_id) is not story:
            raise ForbiddenError(f"session {session_id} was deleted")


def _read_again(
    files: TrainingFiles, begun: Begun, design: Design, session_id: str
) -> tuple[Session, ActivationCache, Reached]:
    """Return what a training needs that goes on.

    Raises:
        SnapshotError: its files are damaged.
        SftError: its session cannot be built any more.
    """
    reached = files.reached()
    cache = ActivationCache.unsealed(files.examples, begun.index)
    try:
        return rebuilt(design, session_id, reached.snapshot), cache, reached
    except BaseException:
        cache.release()
        raise


def _told(store: Store, session_id: str, owner: str) -> Story | None:
    """Return the story of a training of an owner that ended before; None if there is none.

    Raises:
        SessionLostError, SnapshotError: it cannot be read.
    """
    store.record_of(session_id, owner)
    files = TrainingFiles(store, session_id)
    if not files.has_told:
        return None
    told = files.told()
    return Story(owner, told.size, told.events, told.error)
