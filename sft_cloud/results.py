"""What becomes of sessions: how they ended, and the halves that were trained in them.

It knows no streams; what it says it says to the owner of a session alone.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from safetensors import SafetensorError
from torch import Tensor

from sft_cloud.hosted import Hosted
from sft_cloud.scheduler import Scheduler
from sft_cloud.store import Record, Store
from sft_common.config import SessionSpec
from sft_common.errors import (
    CapacityError,
    ConfigError,
    ForbiddenError,
    SessionLostError,
    first_line,
)

log = logging.getLogger(__name__)

REMEMBERED = 1000
"""Closed sessions whose end is told again to an edge that did not hear it."""


class Ending(NamedTuple):
    """How a session was closed."""

    steps: int
    saved: bool


class Results:
    """What one cloud's sessions have come to.

    Args:
        store: where trained halves are kept; None keeps none.
        scheduler: reads and writes beside the device.
        allow_export: whether edges may fetch a trained half.
    """

    def __init__(self, store: Store | None, scheduler: Scheduler, *, allow_export: bool) -> None:
        self._store, self._scheduler, self._allow_export = store, scheduler, allow_export
        self._ended: OrderedDict[str, tuple[str, Ending]] = OrderedDict()

    async def weights_to_keep(self, hosted: Hosted) -> dict[str, Tensor] | None:
        """Return the trained net2 of a session, if this cloud keeps it and it is not broken."""
        if self._store is None:
            return None
        weights = await self._scheduler.compute(hosted.session.weights)
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            name = hosted.record.session
            log.warning("session %s is not kept: its weights are not finite", name)
            return None
        return weights

    async def keep(self, hosted: Hosted, weights: dict[str, Tensor]) -> None:
        """Write the trained net2 of a session to the store, and delete its snapshots.

        Raises:
            CapacityError: the disk does not take it; snapshots are left as they are.
        """
        assert self._store is not None
        steps, name = hosted.session.applied, hosted.record.session
        record = dataclasses.replace(hosted.record, finished=True, steps=steps)
        try:
            path = await self._scheduler.files(self._store.finish, record, weights)
        except (OSError, SafetensorError) as error:
            raise CapacityError(
                f"the cloud could not keep session {name} on its disk: {first_line(error)}"
            ) from error
        log.info("session %s kept in %s", name, path)

    def note(self, record: Record, ending: Ending) -> None:
        """Remember how a session was closed."""
        self._ended[record.session] = record.owner, ending
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

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

    def forget(self, session_id: str) -> None:
        """Forget how a session was closed, if it was: it is no more, or goes on."""
        self._ended.pop(session_id, None)

    def load(self, session_id: str, owner: str, spec: SessionSpec) -> dict[str, Tensor]:
        """Return the trained net2 of a finished session; raises as `Store.load`."""
        return self._kept(session_id, owner).load(session_id, spec)

    def pieces(self, session_id: str, owner: str) -> Iterator[tuple[bytes, int]]:
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
        return self._kept(session_id, owner).pieces(session_id)

    def _kept(self, session_id: str, owner: str) -> Store:
        """Return the store, to be asked for what a session of that owner has trained.

        Raises:
            ConfigError: there is no such session.
        """
        if self._store is None:
            raise ConfigError("this cloud keeps no trained sessions: it was started with --no-save")
        try:
            self._store.record_of(session_id, owner)
        except SessionLostError as error:
            raise ConfigError(f"{error}: one is kept once its training has ended") from error
        return self._store
