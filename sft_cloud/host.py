"""Opens, resumes, puts away and ends sessions. It knows no models and no RPC.

A session outlives the stream that opened it: it waits in memory, then on disk, until its edge comes
back or it is forgotten.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from sft_cloud.admission import NOTHING, Admission
from sft_cloud.builder import Basis, Builder, Design, rebuilt
from sft_cloud.hosted import Hosted, Stop, Visit
from sft_cloud.metrics import Metrics
from sft_cloud.residents import Residents
from sft_cloud.results import Ending, Results
from sft_cloud.scheduler import Scheduler
from sft_cloud.session import Session
from sft_cloud.shelf import Shelf
from sft_cloud.states import States, check_same_training
from sft_cloud.store import Record, Store, check_same, unknown
from sft_cloud.training_run import TrainingLimits
from sft_cloud.trainings import Trainings
from sft_common.config import SessionSpec
from sft_common.errors import (
    ForbiddenError,
    ProtocolError,
    RetryLaterError,
    SessionLostError,
)
from sft_common.plan import Plan
from sft_common.position import Position, Return
from sft_common.snapshots import Snapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a host gives its sessions."""

    max_sessions: int = 8
    """Sessions in memory at once."""

    memory_bytes: int = 8 * 2**30
    """Of the device, for all sessions."""

    park_seconds: float = 300.0
    """After so long without a request a session is put away."""

    snapshots: int = 2
    """Snapshots of each session that are kept."""

    trainings: TrainingLimits = field(default_factory=TrainingLimits)
    """What those get that go on without their edge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What an edge opens a session with (protos: Open)."""

    spec: SessionSpec
    basis: Basis | None = None
    trained_session: str = ""
    replaces: str = ""
    incarnation: int = 0
    trained: Mapping[str, Tensor] | None = None
    """net2 to start from, of a federation."""

    known: Mapping[str, bytes] = field(default_factory=dict)
    """Digests of all that the edge has of net2; empty: it has nothing of it."""

    code: Mapping[str, Tensor] = field(default_factory=dict)
    """Numbers of the codes of a frozen body by stock name, given by a federation of this cloud."""


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
        self._builder, self._store, self.metrics = builder, store, Metrics()
        self._shelf = Shelf(store, scheduler, limits.snapshots, self.metrics) if store else None
        self._states = States(store, scheduler, limits.snapshots, self.metrics) if store else None
        self._stopping = False
        self.residents = Residents(Admission(limits.max_sessions, limits.memory_bytes), self._shelf)
        self.results = Results(store, scheduler, allow_export=allow_export)
        self.trainings = Trainings(
            builder=builder,
            scheduler=scheduler,
            residents=self.residents,
            results=self.results,
            limits=limits.trainings,
            store=store,
            metrics=self.metrics,
        )

    @property
    def store(self) -> Store | None:
        """Where sessions are kept, if anywhere."""
        return self._store

    @property
    def stopping(self) -> bool:
        """Whether it takes no sessions any more."""
        return self._stopping

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
            CapacityError: there is no room for it now.
            LimitError: there will never be.
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
        self._check_open()
        if opening.spec.tail is None and not self.residents.waiting():
            self.residents.admission.check(NOTHING)  # before a model is looked at in vain
        design = await self.scheduler.files(self._builder, opening.spec, opening.code)
        self._check_open()
        async with self.residents.room(design.need):
            session, u_NR = await self.scheduler.files(self._build, record, opening, design)
        hosted = Hosted(record, session, design.need)
        self.residents.add(hosted)
        self.metrics.opened += 1
        log.info(
            "session %s opened: %s %s",
            record.session,
            record.spec.model.name,
            record.spec.split,
            extra=hosted.about.extra(),
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
        async with self.residents.lock(asked.session_id):
            hosted = self.residents.get(asked.session_id)
            record = self._record(asked.session_id, owner)
            _check_allowed(record, asked)
            how = "parked" if hosted is None else "in_memory"
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
        self.metrics.resumes["rewound" if rewound else how] += 1
        hosted.about.step = hosted.session.applied
        log.info(
            "session %s resumed %s step %d",
            record.session,
            "from the snapshot of" if rewound else "at",
            hosted.session.applied,
            extra=hosted.about.extra(),
        )
        return visit, rewound

    async def go_to(self, asked: Return, owner: str, stop: Stop) -> Visit:
        """Take up a session at a state that its script asked for, wherever the session is.

        All that can be refused is, before anything changes.

        Args:
            asked: names session, state, and the session that gives way, if any.
            owner: who the edge is.
            stop: ends the stream.

        Raises:
            SessionLostError: the session or the state is not there, or not for this edge.
            MismatchError: the edge means another training.
            SnapshotError: the state is damaged.
            CapacityError, RetryLaterError: there is no room for it now.
        """
        self._check_open()
        if self._states is None or self._shelf is None:
            raise SessionLostError("this cloud keeps no states: it was started with --no-save")
        record = self._record(asked.session_id, owner)
        check_same_training(record, asked.spec)
        snapshot = await self._states.find(asked.session_id, asked.state)
        design = await self.scheduler.files(self._builder, asked.spec)
        if asked.replaces != asked.session_id:
            await self._give_way(asked.replaces, owner)
        record = dataclasses.replace(
            record, spec=asked.spec, incarnation=asked.incarnation, finished=False
        )
        async with self.residents.lock(asked.session_id):
            visit = await self._put_at(snapshot, record, design, stop)
            try:
                step = visit.session.applied
                visit.hosted.kept = await self._shelf.settle(record, step, forget=True)
            except BaseException:
                visit.leave()
                raise
        self.results.forget(asked.session_id)
        self.metrics.resumes["rewound"] += 1
        visit.hosted.about.step = visit.session.applied
        log.info(
            "session %s went to its state of step %d",
            record.session,
            visit.session.applied,
            extra=visit.hosted.about.extra(),
        )
        return visit

    async def _put_at(
        self, snapshot: Snapshot, record: Record, design: Design, stop: Stop
    ) -> Visit:
        """Have a session be what a snapshot says, in memory or out of it."""
        if (hosted := self.residents.get(record.session)) is None:
            async with self.residents.room(design.need):
                session = await self.scheduler.files(rebuilt, design, record.session, snapshot)
                hosted = Hosted(record, session, design.need)
                self.residents.add(hosted)
            return Visit(hosted, stop)
        hosted.record, visit = record, Visit(hosted, stop)
        try:
            await hosted.quiet()
            await hosted.working(self.scheduler.compute(hosted.session.restore, snapshot))
        except BaseException:
            visit.leave()
            raise
        return visit

    async def _give_way(self, session_id: str, owner: str) -> None:
        """Free what another session of an edge takes; it is forgotten if nothing came of it."""
        hosted = self.residents.get(session_id)
        if hosted is None or hosted.record.owner != owner:
            return
        if hosted.position == Position():
            await self.forget(session_id, owner)
            return
        if hosted.visit is not None:
            hosted.visit.end(ForbiddenError("the session was given up for an older one"))
        await self.residents.put_away(hosted)

    async def save(self, visit: Visit, state: str) -> str:
        """Write a state that a script may go back to; returns why it is not there, empty if it is.

        Raises:
            ProtocolError: that is no name, or parts of net2 are still to come.
        """
        if self._states is None:
            return "the cloud was started with --no-save"
        return await self._states.save(visit.hosted, state)

    async def close(self, visit: Visit, *, discard: bool = False) -> Ending:
        """End a session in good order: keep what was trained, and forget the rest.

        Args:
            visit: the hold on it.
            discard: whether to keep nothing.

        Raises:
            CapacityError: the disk does not take it; snapshots are left as they are.
        """
        hosted = visit.hosted
        await hosted.quiet()
        # A stream that breaks meanwhile must not leave a session that is closed on disk alone.
        return await hosted.working(asyncio.ensure_future(self._close(hosted, discard=discard)))

    async def _close(self, hosted: Hosted, *, discard: bool) -> Ending:
        steps = hosted.session.applied
        kept = steps and not (discard or hosted.passing)
        weights = await self.results.weights_to_keep(hosted) if kept else None
        if weights is not None:
            await self.results.keep(hosted, weights)
        ending = Ending(steps, saved=weights is not None)
        self.results.note(hosted.record, ending)
        self.metrics.closed += 1
        self.residents.drop(hosted)
        if discard and self._store is not None:
            await self.scheduler.files(self._store.delete, hosted.record.session)
        return ending

    async def keep(self, visit: Visit, step: int) -> None:
        """Begin to write a snapshot behind the last step; asked again later, it is there.

        Raises:
            ProtocolError: that was another step.
        """
        position = visit.session.position
        if step != position.applied:
            raise ProtocolError(f"keep names step {step}, but step {position.applied} was last")
        if self._shelf is not None and not position.exchanges:
            await self._shelf.keep(visit.hosted, step)

    async def train_stored(self, visit: Visit, plan: Plan) -> int:
        """Start a training over the stored examples; returns its steps.

        Raises:
            ProtocolError: none are stored.
            CapacityError: the disk does not take what the training needs.
        """
        total = await self.trainings.start(visit.hosted, plan)
        visit.leave()
        return total

    async def park(self, visit: Visit) -> bool:
        """Put a session away at its edge's wish; returns whether it is on disk."""
        hosted = visit.hosted
        visit.leave()
        return await self.residents.put_away(hosted)

    def failed(self, visit: Visit, error: Exception) -> None:
        """Give up a session whose stream ended with an error of its own: what is on disk stays."""
        if visit.current and not isinstance(error, RetryLaterError):
            self.residents.drop(visit.hosted)

    async def forget(self, session_id: str, owner: str) -> None:
        """Delete a session that its owner does not want any more; unknown ones are none."""
        async with self.residents.lock(session_id):
            hosted = self.residents.get(session_id)
            try:
                record = self._record(session_id, owner)
            except SessionLostError:
                return
            if record.finished or self.trainings.goes_on(session_id):
                return
            self.trainings.forget(session_id)
            if hosted is not None:
                if hosted.visit is not None:
                    hosted.visit.end(ForbiddenError("the session was given up for a new one"))
                await hosted.quiet()
                self.residents.drop(hosted)
            if self._store is not None:
                await self.scheduler.files(self._store.delete, session_id)

    async def delete(self, session_id: str, *, from_disk_only: bool = False) -> bool:
        """Delete all there is of a session, whoever it belongs to and whatever it does now.

        Args:
            session_id: its name.
            from_disk_only: leave it alone if it is in memory, or waits to train there.

        Returns:
            Whether there was anything of it.

        Raises:
            OSError: the disk does not let go of it.
        """
        async with self.residents.lock(session_id):
            hosted, store = self.residents.get(session_id), self._store
            found = hosted is not None or (store is not None and store.has(session_id))
            lives = hosted is not None or self.trainings.goes_on(session_id)
            if not found or (lives and from_disk_only):
                return False
            if store is not None:
                store.forbid(session_id)  # a snapshot may be about to be written
            if hosted is not None:
                await self._end_deleted(hosted)
            self.results.forget(session_id)
            self.trainings.forget(session_id)
            if store is not None:
                await self.scheduler.files(store.delete, session_id)
        self.metrics.deleted += 1
        log.info("session %s deleted", session_id, extra={"session": session_id})
        return True

    async def _end_deleted(self, hosted: Hosted) -> None:
        """Take a session from its stream or its training, and free its memory."""
        hosted.deleted = ForbiddenError(
            f"session {hosted.record.session} was deleted by the owner of the cloud"
        )
        if hosted.visit is not None:
            hosted.visit.end(hosted.deleted)
        await hosted.quiet()
        if hosted.training:
            await hosted.gone.wait()
        self.residents.drop(hosted)

    async def watch(self) -> None:
        """Put sessions away that nobody asks for; runs until it is cancelled."""
        limit = self.limits.park_seconds
        idle = RetryLaterError(f"nothing was asked for {limit:g} s: the session was put away")
        while True:
            await asyncio.sleep(min(5.0, limit / 4))
            for hosted in self.residents:
                if hosted.idle_seconds > limit:
                    if hosted.visit is not None:
                        hosted.visit.end(idle)
                    await self.residents.put_away(hosted)

    async def begin(self) -> None:
        """Go on with what needs no edge; to be called before any comes."""
        await self.trainings.begin()

    async def stop(self) -> None:
        """Take no more sessions, let what runs on the device finish, and put all away."""
        self._stopping = True
        reason = self._about_to_stop()
        for hosted in self.residents:
            if hosted.visit is not None:
                hosted.visit.end(reason)
        await asyncio.gather(
            self.trainings.stop(reason), *map(self.residents.put_away, self.residents)
        )

    def _build(
        self, record: Record, opening: Opening, design: Design
    ) -> tuple[Session, Tensor | None]:
        trained = opening.trained
        if name := opening.trained_session:
            trained = self.results.load(name, record.owner, record.spec)
        edge_has = bool(opening.known)
        session, u_NR = design.build(record.session, opening.basis, trained, edge_has=edge_has)
        if edge_has:
            session.arriving.expect(opening.known)
        return session, u_NR

    def _check_open(self) -> None:
        if self._stopping:
            raise self._about_to_stop()

    def _about_to_stop(self) -> RetryLaterError:
        what = "keeps the session" if self._shelf else "keeps no sessions"
        return RetryLaterError(f"the cloud is stopping; it {what}")

    def _record(self, session_id: str, owner: str) -> Record:
        """Return what is known of a session; to all but its owner it does not exist.

        Raises:
            SessionLostError: nothing is.
        """
        hosted = self.residents.get(session_id)
        if hosted is not None and hosted.record.owner == owner:
            return hosted.record
        if hosted is not None or self._store is None:
            raise unknown(session_id)
        return self._store.record_of(session_id, owner)

    async def _take_down(self, record: Record, asked: Return) -> tuple[Hosted, bool]:
        """Bring a session back from disk."""
        found = await self._shelf.find(record, asked) if self._shelf else None
        if found is None or self._shelf is None:
            raise _nothing_common(record)
        snapshot, rewound = found
        design = await self.scheduler.files(self._builder, record.spec)
        self._check_open()
        async with self.residents.room(design.need):
            session = await self.scheduler.files(rebuilt, design, record.session, snapshot)
            kept = await self._shelf.settle(record, session.applied, forget=rewound)
            hosted = Hosted(record, session, design.need, kept)
            self.residents.add(hosted)
        return hosted, rewound

    async def _go_back(self, hosted: Hosted, asked: Return) -> bool:
        """Have a session in memory go back to where its edge can follow; returns whether it did."""
        await hosted.quiet()
        if asked.covers(hosted.position) or hosted.stored:
            return False
        position, record = hosted.position, hosted.record
        if hosted.passing:
            raise _nothing_common(record)
        if position.exchanges or position.applied not in asked.snapshots:
            found = await self._shelf.find(record, asked) if self._shelf else None
            if found is None:
                raise _nothing_common(record)
            await hosted.working(self.scheduler.compute(hosted.session.restore, found[0]))
        if self._shelf is not None:
            hosted.kept = await self._shelf.settle(record, hosted.session.applied, forget=True)
        return True


def _check_allowed(record: Record, asked: Return) -> None:
    """Refuse a program that is not the session's edge, or means something else by it."""
    if record.finished:
        raise SessionLostError(f"session {record.session} has ended")
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
