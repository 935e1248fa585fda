"""Opens, resumes, puts away and ends sessions. It knows no models and no RPC.

A session outlives the stream that opened it: it waits in memory, then on disk, until its edge comes
back or it is forgotten.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

from safetensors import SafetensorError
from torch import Tensor

from sft_cloud.builder import Basis, Builder
from sft_cloud.hosted import Hosted, Stop, Visit
from sft_cloud.scheduler import Scheduler
from sft_cloud.session import Session
from sft_cloud.shelf import Shelf
from sft_cloud.store import Record, Store, check_same
from sft_cloud.trainings import Trainings
from sft_common.config import SessionSpec
from sft_common.errors import (
    CapacityError,
    ConfigError,
    ForbiddenError,
    ProtocolError,
    RetryLaterError,
    SessionLostError,
    SnapshotError,
    first_line,
)
from sft_common.plan import Plan
from sft_common.position import Position, Return
from sft_common.snapshots import Snapshot

log = logging.getLogger(__name__)

REMEMBERED = 1000
"""Closed sessions whose end is told again to an edge that did not hear it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a host gives its sessions."""

    max_sessions: int = 8
    """Sessions in memory at once."""

    park_seconds: float = 300.0
    """After so long without a request a session is put away."""

    snapshots: int = 2
    """Snapshots of each session that are kept."""

    cache_memory_bytes: int = 256 * 2**20
    """Of the examples of a frozen edge, more goes to disk."""

    cache_limit_bytes: int = 16 * 2**30
    """Of the examples of a frozen edge, more is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What an edge opens a session with (protos: Open)."""

    spec: SessionSpec
    basis: Basis | None = None
    trained_session: str = ""
    replaces: str = ""
    incarnation: int = 0


class Ending(NamedTuple):
    """How a session was closed."""

    steps: int
    saved: bool


class Host:
    """All sessions of one cloud on one device.

    Args:
        builder: makes a session out of what the edge asked for.
        scheduler: who gets the device next.
        limits: what sessions get.
        store: where sessions are kept; None keeps nothing.
        allow_export: whether edges may fetch a trained half.
    """

    def __init__(
        self,
        *,
        builder: Builder,
        scheduler: Scheduler,
        limits: Limits,
        store: Store | None = None,
        allow_export: bool = False,
    ) -> None:
        self.scheduler, self.limits = scheduler, limits
        self._builder, self._store = builder, store
        self._shelf = Shelf(store, scheduler, limits.snapshots) if store else None
        self._allow_export = allow_export
        self._sessions: dict[str, Hosted] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ended: OrderedDict[str, tuple[str, Ending]] = OrderedDict()
        self._in_memory = 0
        self._stopping = False
        self.trainings = Trainings(
            scheduler,
            cache_memory_bytes=limits.cache_memory_bytes,
            cache_limit_bytes=limits.cache_limit_bytes,
        )

    @property
    def keeps_snapshots(self) -> bool:
        """Whether a session outlives this process."""
        return self._shelf is not None

    async def open(self, opening: Opening, owner: str, stop: Stop) -> tuple[Visit, Tensor | None]:
        """Open a session; returns the stream's hold on it and the factor u for the edge, if any.

        Args:
            opening: what the edge asks for.
            owner: who it is.
            stop: ends the stream.

        Raises:
            CapacityError: as many sessions are open as this cloud takes.
            RetryLaterError: it is about to stop.
            ConfigError, MismatchError, ModelError: the spec does not fit the model here.
        """
        if opening.replaces:
            await self.forget(opening.replaces, owner)
        record = Record(
            session=secrets.token_hex(8),
            spec=opening.spec,
            owner=owner,
            incarnation=opening.incarnation,
        )
        async with self._room():
            session, u_NR = await self.scheduler.files(self._build, record, opening)
        hosted = self._sessions[record.session] = Hosted(record, session)
        log.info(
            "session %s opened: %s %s", record.session, record.spec.model.name, record.spec.split
        )
        return Visit(hosted, stop), u_NR

    async def resume(self, asked: Return, owner: str, stop: Stop) -> tuple[Visit, bool]:
        """Take up a session again; returns the hold on it, and whether the edge must go back.

        Args:
            asked: where the edge is.
            owner: who it is.
            stop: ends the stream.

        Raises:
            SessionLostError: it is not known, or not to this edge, or there is no common snapshot.
            MismatchError: the edge means another training.
            ForbiddenError: another program has become the session's edge.
            CapacityError, RetryLaterError: there is no room for it now.
        """
        self._check_open()
        async with self._lock(asked.session_id):
            hosted = self._sessions.get(asked.session_id)
            record = hosted.record if hosted else self._record(asked.session_id)
            _check_allowed(record, asked, owner)
            if asked.confirmed is None:
                record = dataclasses.replace(record, incarnation=asked.incarnation)
            if hosted is None:
                hosted, rewound = await self._take_down(record, asked)
                visit = Visit(hosted, stop)
            else:
                hosted.record, visit = record, Visit(hosted, stop)
                try:
                    rewound = await self._go_back(hosted, asked)
                except BaseException:
                    visit.leave()
                    raise
        log.info(
            "session %s resumed %s step %d",
            record.session,
            "from the snapshot of" if rewound else "at",
            hosted.session.applied,
        )
        return visit, rewound

    def ending(self, session_id: str, owner: str) -> Ending | None:
        """Return how a session was closed, if it was."""
        known_owner, ending = self._ended.get(session_id, ("", None))
        if ending is None and self._store is not None:
            try:
                record = self._store.record(session_id)
            except SessionLostError:
                return None
            if record.finished:
                known_owner, ending = record.owner, Ending(record.steps, saved=True)
        return ending if owner == known_owner else None

    async def close(self, visit: Visit) -> Ending:
        """End a session in good order: keep what was trained, and forget the rest.

        Raises:
            CapacityError: the disk does not take it; snapshots are left as they are.
        """
        hosted = visit.hosted
        await hosted.quiet()
        saved = hosted.session.applied > 0 and await self.keep_trained(hosted)
        ending = Ending(hosted.session.applied, saved)
        self._ended[hosted.record.session] = hosted.record.owner, ending
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        self.drop(hosted)
        return ending

    async def keep(self, visit: Visit, step: int) -> None:
        """Begin to write a snapshot behind the last step.

        Raises:
            ProtocolError: that was another step, or the next one has begun.
        """
        position = visit.session.position
        if position != Position(step):
            raise ProtocolError(
                f"keep names step {step}, but step {position.applied} was applied last, and "
                f"{position.micro_batches} micro-batches came after it"
            )
        if self._shelf is not None:
            await self._shelf.keep(visit.hosted, step)

    def train_stored(self, visit: Visit, plan: Plan) -> int:
        """Start a training over the stored examples; returns its steps.

        Raises:
            ProtocolError: none are stored.
        """
        hosted = visit.hosted
        total = self.trainings.start(hosted, plan, self.keep_trained, self.drop)
        visit.leave()
        return total

    async def park(self, visit: Visit) -> bool:
        """Put a session away at its edge's wish; returns whether it is on disk."""
        hosted = visit.hosted
        visit.leave()
        return await self._put_away(hosted)

    def failed(self, visit: Visit, error: Exception) -> None:
        """Give up a session whose stream ended with an error of its own: what is on disk stays."""
        if visit.current and not isinstance(error, RetryLaterError):
            self.drop(visit.hosted)

    def drop(self, hosted: Hosted) -> None:
        """Free the memory of a session; safe to repeat."""
        if self._sessions.get(hosted.record.session) is hosted:
            del self._sessions[hosted.record.session]
            self._in_memory -= 1
            if hosted.cache is not None and not hosted.training:
                hosted.cache.close()
            log.info(
                "session %s left after %d steps", hosted.record.session, hosted.session.applied
            )

    async def forget(self, session_id: str, owner: str) -> None:
        """Delete a session that its owner does not want any more; unknown ones are none."""
        async with self._lock(session_id):
            hosted = self._sessions.get(session_id)
            try:
                record = hosted.record if hosted else self._record(session_id)
            except SessionLostError:
                return
            if record.owner != owner or record.finished or (hosted and hosted.training):
                return
            if hosted is not None:
                if hosted.visit is not None:
                    hosted.visit.end(ForbiddenError("the session was given up for a new one"))
                await hosted.quiet()
                self.drop(hosted)
            if self._store is not None:
                await self.scheduler.files(self._store.delete, session_id)

    async def watch(self) -> None:
        """Put sessions away that nobody asks for; runs until it is cancelled."""
        limit = self.limits.park_seconds
        idle = RetryLaterError(f"nothing was asked for {limit:g} s: the session was put away")
        while True:
            await asyncio.sleep(min(5.0, limit / 4))
            for hosted in list(self._sessions.values()):
                if hosted.idle_seconds > limit:
                    if hosted.visit is not None:
                        hosted.visit.end(idle)
                    await self._put_away(hosted)

    async def stop(self) -> None:
        """Take no more sessions, let what runs on the device finish, and put all away."""
        self._stopping = True
        for hosted in list(self._sessions.values()):
            if hosted.visit is not None:
                hosted.visit.end(self._about_to_stop())
        await asyncio.gather(*map(self._put_away, list(self._sessions.values())))

    async def keep_trained(self, hosted: Hosted) -> bool:
        """Write the trained net2 to the store; False if this cloud keeps none, or it is broken.

        Raises:
            CapacityError: the disk does not take it.
        """
        session, name = hosted.session, hosted.record.session
        if self._store is None:
            return False
        weights = await self.scheduler.compute(session.weights)
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            log.warning("session %s is not kept: its weights are not finite", name)
            return False
        record = dataclasses.replace(hosted.record, finished=True, steps=session.applied)
        try:
            path = await self.scheduler.files(self._store.finish, record, weights)
        except (OSError, SafetensorError) as error:
            raise CapacityError(
                f"the cloud could not keep session {name} on its disk: {first_line(error)}"
            ) from error
        log.info("session %s kept in %s", name, path)
        return True

    def trained_pieces(self, session_id: str, owner: str) -> Iterator[tuple[bytes, int]]:
        """Yield the file of a trained net2 in pieces, each with the size of the whole.

        Raises:
            ForbiddenError: this cloud does not hand out trained halves.
            ConfigError: it has no such session, or it is another edge's.
        """
        if not self._allow_export:
            raise ForbiddenError(
                "this cloud does not hand out what it trained; its owner can start it with "
                "--allow-export"
            )
        store = self._kept(session_id, owner)
        return store.pieces(session_id)

    def _kept(self, session_id: str, owner: str) -> Store:
        if self._store is None:
            raise ConfigError("this cloud keeps no trained sessions: it was started with --no-save")
        if self._store.finished(session_id).owner != owner:
            raise ConfigError(f"this cloud has no session {session_id}")
        return self._store

    def _build(self, record: Record, opening: Opening) -> tuple[Session, Tensor | None]:
        trained = None
        if name := opening.trained_session:
            trained = self._kept(name, record.owner).load(name, record.spec)
        return self._builder(record.session, record.spec, opening.basis, trained)

    def _check_open(self) -> None:
        if self._stopping:
            raise self._about_to_stop()

    def _about_to_stop(self) -> RetryLaterError:
        what = "keeps the session" if self._shelf else "keeps no sessions"
        return RetryLaterError(f"the cloud is stopping; it {what}")

    def _lock(self, session_id: str) -> asyncio.Lock:
        """Return the lock under which a session goes to disk or comes back."""
        return self._locks.setdefault(session_id, asyncio.Lock())

    def _record(self, session_id: str) -> Record:
        if self._store is None:
            raise SessionLostError(f"this cloud has no session {session_id[:40]!r}")
        record = self._store.record(session_id)
        if record.finished:
            raise SessionLostError(f"session {session_id} has ended")
        return record

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        """Reserve the place of a session in memory; given back if the block fails.

        Raises:
            CapacityError: all places are taken by sessions at work.
        """
        self._check_open()
        if self._in_memory >= self.limits.max_sessions:
            await self._make_room()
        self._in_memory += 1
        try:
            yield
        except BaseException:
            self._in_memory -= 1
            raise

    async def _make_room(self) -> None:
        """Put the session away whose edge has been gone for the longest."""
        waiting = [h for h in self._sessions.values() if h.visit is None and not h.training]
        for hosted in sorted(waiting, key=lambda hosted: hosted.seen):
            await self._put_away(hosted)
            if self._in_memory < self.limits.max_sessions:
                return
        raise CapacityError(
            f"this cloud has {self._in_memory} of {self.limits.max_sessions} sessions open; "
            "try again later, have the edge wait with --wait SECONDS, or start the cloud with a "
            "larger --max-sessions"
        )

    async def _put_away(self, hosted: Hosted) -> bool:
        """Write a session to disk and free its memory; returns whether it is on disk.

        One that the disk does not take stays in memory.
        """
        async with self._lock(hosted.record.session):
            gone = self._sessions.get(hosted.record.session) is not hosted
            if gone or hosted.visit is not None or hosted.training:
                return False
            await hosted.quiet()
            kept = self._shelf is not None and hosted.position > Position() and not hosted.stored
            if kept:
                assert self._shelf is not None
                try:
                    await self._shelf.put_away(hosted)
                except SnapshotError as error:
                    log.error("session %s stays in memory: %s", hosted.record.session, error)
                    return False
            self.drop(hosted)
            return kept

    async def _take_down(self, record: Record, asked: Return) -> tuple[Hosted, bool]:
        """Bring a session back from disk."""
        found = await self._shelf.find(record, asked) if self._shelf else None
        if found is None or self._shelf is None:
            raise _nothing_common(record)
        snapshot, rewound = found
        async with self._room():
            session = await self.scheduler.files(self._rebuild, record, snapshot)
            kept = await self._shelf.settle(record, session.applied, forget=rewound)
            hosted = self._sessions[record.session] = Hosted(record, session, kept)
        return hosted, rewound

    def _rebuild(self, record: Record, snapshot: Snapshot) -> Session:
        weights = snapshot.tensors["weights"]
        session, _ = self._builder(record.session, record.spec, None, weights)
        session.restore(snapshot)
        return session

    async def _go_back(self, hosted: Hosted, asked: Return) -> bool:
        """Have a session in memory go back to where its edge can follow; returns whether it did."""
        await hosted.quiet()
        if asked.covers(hosted.position) or hosted.stored:
            return False
        position, record = hosted.position, hosted.record
        if position.micro_batches or position.applied not in asked.snapshots:
            found = await self._shelf.find(record, asked) if self._shelf else None
            if found is None:
                raise _nothing_common(record)
            await hosted.working(self.scheduler.compute(hosted.session.restore, found[0]))
        if self._shelf is not None:
            hosted.kept = await self._shelf.settle(record, hosted.session.applied, forget=True)
        return True


def _check_allowed(record: Record, asked: Return, owner: str) -> None:
    """Refuse an edge that is not the session's, or means something else by it."""
    if record.owner != owner:  # in the words of one that does not exist
        raise SessionLostError(f"this cloud has no session {record.session}")
    check_same(record.session, record.spec, asked.spec)
    if asked.confirmed is not None and asked.incarnation != record.incarnation:
        raise ForbiddenError(
            f"session {record.session} was taken up by another program of its run; this one has "
            "lost it"
        )


def _nothing_common(record: Record) -> SessionLostError:
    return SessionLostError(
        f"this cloud has no snapshot of session {record.session} that the edge has too"
    )
