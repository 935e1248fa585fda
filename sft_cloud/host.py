"""Opens and ends sessions: admission, keeping what was trained. It knows no models and no RPC."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from safetensors import SafetensorError
from torch import Tensor

from sft_cloud.builder import Basis, Builder
from sft_cloud.scheduler import Scheduler
from sft_cloud.session import Session
from sft_cloud.store import Store
from sft_cloud.trainings import Trainings
from sft_common.config import SessionSpec
from sft_common.errors import CapacityError, ConfigError, ForbiddenError, first_line

log = logging.getLogger(__name__)


class Host:
    """All sessions of one cloud on one device.

    Args:
        builder: makes a session out of what the edge asked for.
        scheduler: who gets the device next.
        max_sessions: sessions open at once; one more is refused.
        store: where trained halves are kept; None keeps nothing.
        allow_export: whether edges may fetch a trained half.
        cache_memory_bytes: of the examples of a frozen edge, more goes to disk.
        cache_limit_bytes: of the examples of a frozen edge, more is refused.
    """

    def __init__(
        self,
        *,
        builder: Builder,
        scheduler: Scheduler,
        max_sessions: int,
        store: Store | None = None,
        allow_export: bool = False,
        cache_memory_bytes: int = 256 * 2**20,
        cache_limit_bytes: int = 16 * 2**30,
    ) -> None:
        self.scheduler = scheduler
        self._builder = builder
        self._max_sessions = max_sessions
        self._store = store
        self._allow_export = allow_export
        self._open = 0
        self.trainings = Trainings(
            scheduler,
            self.keep,
            cache_memory_bytes=cache_memory_bytes,
            cache_limit_bytes=cache_limit_bytes,
        )

    @asynccontextmanager
    async def session(
        self,
        spec: SessionSpec,
        basis: Basis | None = None,
        trained_session: str = "",
    ) -> AsyncIterator[tuple[Session, Tensor | None]]:
        """Open a session; yields it with the factor u for the edge, if the cut has one.

        Args:
            spec: what the edge asked for.
            basis: mu (N,) and D (R, N), for the cuts that have a basis.
            trained_session: a finished session whose net2 to start from; empty: the pre-trained.

        Raises:
            CapacityError: as many sessions are open as this cloud takes.
            ConfigError, MismatchError, ModelError: the spec does not fit the model here.
        """
        if self._open >= self._max_sessions:
            raise CapacityError(
                f"this cloud has {self._open} of {self._max_sessions} sessions open; "
                "try again later or start it with a larger --max-sessions"
            )
        self._open += 1
        goes_on = False
        try:
            session, u_NR = await self.scheduler.files(self._build, spec, basis, trained_session)
            log.info("session %s opened: %s %s", session.session_id, spec.model.name, spec.split)
            try:
                yield session, u_NR
            finally:
                goes_on = session.session_id in self.trainings
                log.info("session %s ended after %d steps", session.session_id, session.applied)
        finally:
            if not goes_on:
                self.release()

    def release(self) -> None:
        """Give the place of a session back: at its end, or at that of its training."""
        self._open -= 1

    async def keep(self, session: Session) -> bool:
        """Write the trained net2 to the store; False if this cloud keeps none, or it is broken.

        Raises:
            CapacityError: the disk does not take it.
        """
        if self._store is None:
            return False
        weights = await self.scheduler.compute(session.weights)
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            log.warning("session %s is not kept: its weights are not finite", session.session_id)
            return False
        try:
            path = await self.scheduler.files(
                self._store.save, session.session_id, session.spec, session.applied, weights
            )
        except (OSError, SafetensorError) as error:
            raise CapacityError(
                f"the cloud could not keep session {session.session_id} on its disk: "
                f"{first_line(error)}"
            ) from error
        log.info("session %s kept in %s", session.session_id, path)
        return True

    def trained_pieces(self, session_id: str) -> Iterator[tuple[bytes, int]]:
        """Yield the file of a trained net2 in pieces, each with the size of the whole.

        Raises:
            ForbiddenError: this cloud does not hand out trained halves.
            ConfigError: it has no such session.
        """
        if not self._allow_export:
            raise ForbiddenError(
                "this cloud does not hand out what it trained; its owner can start it with "
                "--allow-export"
            )
        return self._kept().pieces(session_id)

    def _kept(self) -> Store:
        if self._store is None:
            raise ConfigError(
                "this cloud keeps no trained sessions; its owner can start it with --save-dir DIR"
            )
        return self._store

    def _build(
        self, spec: SessionSpec, basis: Basis | None, trained_session: str
    ) -> tuple[Session, Tensor | None]:
        trained = self._kept().load(trained_session, spec) if trained_session else None
        return self._builder(spec, basis, trained)
