"""Sessions on their way to the disk and back: snapshots that the edge asks for, and putting away.

It decides which snapshot a session goes on from; it knows no streams and no models.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator

from sft_cloud.hosted import Hosted
from sft_cloud.metrics import Metrics
from sft_cloud.scheduler import Scheduler
from sft_cloud.store import Record, Store
from sft_common.errors import SnapshotError, first_line
from sft_common.position import Position, Return
from sft_common.snapshots import Snapshot, step_name

log = logging.getLogger(__name__)

PARKED = "parked-"

_NAME = re.compile(r"(step|parked)-\d+(-\d+)?")


class Shelf:
    """The snapshots of a host's sessions.

    Args:
        store: where they are.
        scheduler: reads and writes beside the device.
        count: snapshots of each session that are kept, beside that of one put away.
        metrics: counts them.
    """

    def __init__(self, store: Store, scheduler: Scheduler, count: int, metrics: Metrics) -> None:
        self._store, self._scheduler, self._count = store, scheduler, count
        self._metrics = metrics

    async def keep(self, hosted: Hosted, step: int) -> None:
        """Begin to write a snapshot behind a step; `hosted.written` waits for its end.

        A disk that does not take it is noticed, and costs nothing but the snapshot.
        """
        await hosted.written()
        if hosted.deleted is not None:
            return
        if step in self._store.snapshots(hosted.record.session).steps():
            return
        hosted.writing(asyncio.ensure_future(self._keep(hosted, step)))

    async def put_away(self, hosted: Hosted) -> None:
        """Write a session as it is; nobody may work on it.

        Raises:
            SnapshotError: the disk does not take it.
        """
        assert hosted.session is not None
        position = hosted.session.position
        name = step_name(position.applied)
        if not position.exchanges and position.applied in self._steps(hosted.record):
            return
        name = f"{PARKED}{position.applied:08d}-{position.exchanges}"
        await self._write(hosted, name)
        await self._scheduler.files(self._clear, hosted.record, name)

    async def find(self, record: Record, asked: Return) -> tuple[Snapshot, bool] | None:
        """Return the snapshot to go on from, and whether the edge must go back to its own.

        The newest that the edge can follow: from where it was put away, with what the edge has in
        memory, else behind a step of which the edge has a snapshot too. A damaged one is passed
        over. None if there is none.
        """
        return await self._scheduler.files(self._find, record, asked)

    async def settle(self, record: Record, step: int, *, forget: bool) -> int:
        """Note that a session goes on behind a step; returns that of its newest snapshot.

        Args:
            record: of the session.
            step: applied last.
            forget: delete snapshots of later steps: what follows may be another course of things.
        """
        return await self._scheduler.files(self._settle, record, step, forget)

    async def _keep(self, hosted: Hosted, step: int) -> None:
        try:
            await self._write(hosted, step_name(step))
            hosted.kept = step
            await self._scheduler.files(self._clear, hosted.record, "")
        except SnapshotError as error:
            hosted.notice = f"the cloud could not keep the snapshot of step {step}: {error}"
            log.warning("session %s: %s", hosted.record.session, error)

    async def _write(self, hosted: Hosted, name: str) -> None:
        assert hosted.session is not None
        snapshot = hosted.session.snapshot()
        with self._metrics.snapshot():
            await self._scheduler.files(self._write_now, hosted.record, name, snapshot)

    def _write_now(self, record: Record, name: str, snapshot: Snapshot) -> None:
        try:
            self._store.note(record)
        except OSError as error:
            raise SnapshotError(
                f"cannot write session {record.session}: {error.strerror or first_line(error)}"
            ) from error
        self._store.snapshots(record.session).write(name, snapshot)

    def _clear(self, record: Record, parked: str) -> None:
        """Delete what newer snapshots make needless."""
        snapshots = self._store.snapshots(record.session)
        snapshots.remove_older(self._count)
        for name in snapshots.names():
            if name.startswith(PARKED) and name != parked:
                snapshots.remove(name)

    def _steps(self, record: Record) -> list[int]:
        return self._store.snapshots(record.session).steps()

    def _find(self, record: Record, asked: Return) -> tuple[Snapshot, bool] | None:
        snapshots = self._store.snapshots(record.session)
        for name in _candidates(snapshots.names(), asked):
            try:
                snapshot = snapshots.read(name)
            except SnapshotError as error:
                log.warning("session %s: %s", record.session, error, extra=_about(record))
                continue
            position = Position(snapshot.facts["applied"], snapshot.facts["exchanges"])
            return snapshot, not asked.covers(position)
        return None

    def _settle(self, record: Record, step: int, forget: bool) -> int:
        snapshots = self._store.snapshots(record.session)
        try:
            self._store.note(record)
            for name in snapshots.names() if forget else []:
                if name.startswith(PARKED) or name > step_name(step):
                    snapshots.remove(name)
        except (OSError, SnapshotError) as error:
            log.warning("session %s: %s", record.session, first_line(error), extra=_about(record))
        return max(snapshots.steps(), default=0)


def _about(record: Record) -> dict[str, str]:
    """Return what a line is about that a thread writes."""
    return {"session": record.session}


def _candidates(names: list[str], asked: Return) -> Iterator[str]:
    """Yield the names of snapshots that the edge can follow, the best first."""
    common = {step_name(step) for step in asked.snapshots}
    known = [name for name in names if _NAME.fullmatch(name)]
    placed = sorted(((_position(name), name) for name in known), reverse=True)
    yield from (name for position, name in placed if asked.covers(position))
    yield from (name for position, name in placed if name in common and not asked.covers(position))


def _position(name: str) -> Position:
    """Return the position that a snapshot's name says."""
    applied, _, exchanges = name.partition("-")[2].partition("-")
    return Position(int(applied), int(exchanges or 0))
