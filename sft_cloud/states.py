"""States of sessions that a training script asked for, on disk: written, found, and few enough.

They lie apart from the snapshots that connections need, and outlive their session's end: a script
that is started again may load one. It knows no streams and no models.
"""

from __future__ import annotations

import asyncio
import dataclasses

from sft_cloud.hosted import Hosted
from sft_cloud.metrics import Metrics
from sft_cloud.scheduler import Scheduler
from sft_cloud.store import SESSION_ID, Record, Store, check_same
from sft_common.config import SessionSpec
from sft_common.errors import ProtocolError, SessionLostError, SnapshotError, first_line
from sft_common.snapshots import Snapshot, step_name


class States:
    """The states of a host's sessions.

    Args:
        store: where they are.
        scheduler: reads and writes beside the device.
        count: states of each session that are kept, the newest.
        metrics: counts them as snapshots.
    """

    def __init__(self, store: Store, scheduler: Scheduler, count: int, metrics: Metrics) -> None:
        self._store, self._scheduler, self._count = store, scheduler, count
        self._metrics = metrics

    async def save(self, hosted: Hosted, state: str) -> str:
        """Write a session's state; returns why it is not on disk, empty if it is.

        Args:
            hosted: the session, on which nobody works meanwhile.
            state: its name; one of that name that is there stays.

        Raises:
            ProtocolError: that is no name, or parts of net2 are still to come.
        """
        if not SESSION_ID.fullmatch(state):
            raise ProtocolError(f"{state[:40]!r} is no name of a state")
        hosted.session.arriving.check_complete()
        await hosted.written()
        if self._name_of(hosted.record.session, state):
            return ""
        saving = asyncio.ensure_future(self._save(hosted, state))
        hosted.writing(saving)
        await hosted.written()
        return saving.result()

    async def find(self, session_id: str, state: str) -> Snapshot:
        """Return a state.

        Raises:
            SessionLostError: it is not there, or not any more.
            SnapshotError: it is damaged.
        """
        if (name := self._name_of(session_id, state)) is None:
            raise SessionLostError(
                f"this cloud has that state of session {session_id} no more: of each session it "
                f"keeps the newest {self._count} (--snapshots)"
            )
        return await self._scheduler.files(self._store.states(session_id).read, name)

    def _name_of(self, session_id: str, state: str) -> str | None:
        names = self._store.states(session_id).names()
        return next((name for name in names if name.endswith(f"-{state}")), None)

    async def _save(self, hosted: Hosted, state: str) -> str:
        snapshot = hosted.session.state()
        name = f"{step_name(hosted.session.applied)}-{state}"
        try:
            with self._metrics.snapshot():
                await self._scheduler.files(self._write, hosted.record, name, snapshot)
        except (SnapshotError, OSError) as error:
            return first_line(error)
        return ""

    def _write(self, record: Record, name: str, snapshot: Snapshot) -> None:
        self._store.note(record)
        states = self._store.states(record.session)
        states.write(name, snapshot)
        for old in states.by_age()[: -self._count]:
            states.remove(old)


def check_same_training(record: Record, asked: SessionSpec) -> None:
    """Refuse a state of another training; settings of its optimizer come with every step anyway.

    Raises:
        MismatchError: shows both values.
    """
    there, here = (_without_settings(spec) for spec in (record.spec, asked))
    check_same(record.session, there, here)


def _without_settings(spec: SessionSpec) -> SessionSpec:
    if (own := spec.own_optimizer) is None:
        return spec
    groups = tuple(dataclasses.replace(group, settings={}) for group in own.groups)
    return dataclasses.replace(spec, own_optimizer=dataclasses.replace(own, groups=groups))
