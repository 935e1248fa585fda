"""One session in its host's memory, and the stream that has it now.

It knows no streams but how to end one, and no models; host.py decides what happens to a session.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sft_cloud.admission import Need
from sft_cloud.cache import ActivationCache
from sft_cloud.logs import About
from sft_cloud.metrics import Figures
from sft_cloud.session import Session
from sft_cloud.store import Record
from sft_common.errors import ForbiddenError, SftError
from sft_common.position import Position

T = TypeVar("T")

Stop = Callable[[Exception], None]
"""Ends a stream with an error, in place of its next request."""


class Hosted:
    """A session, and what its host knows of it.

    Args:
        record: its name, spec and owner.
        session: at work.
        need: what was reserved for it.
        kept: the step of its newest snapshot that the edge asked for; 0: none.
    """

    def __init__(self, record: Record, session: Session, need: Need, kept: int = 0) -> None:
        self.record, self.session, self.need = record, session, need
        self.kept, self.notice = kept, ""
        self.cache: ActivationCache | None = None
        self.training = False
        self.deleted: SftError | None = None
        self.gone = asyncio.Event()
        self.figures = Figures()
        self.about = About(record.session, session.applied)
        self.visit: Visit | None = None
        self.seen = time.monotonic()
        self._work: asyncio.Future[Any] | None = None
        self._writing: asyncio.Future[Any] | None = None

    @property
    def passing(self) -> bool:
        """Whether nothing of it is to be kept: it has a frozen body, or is part of a round."""
        spec = self.record.spec
        return spec.tail is not None or bool(spec.federation)

    @property
    def stored(self) -> int:
        """Batches of examples that it has, of a frozen edge."""
        return self.cache.batches if self.cache is not None else 0

    @property
    def position(self) -> Position:
        """How far it has come."""
        return self.session.position._replace(stored=self.stored)

    @property
    def idle_seconds(self) -> float:
        """Seconds since anything was asked of it; 0 while it trains alone."""
        return 0.0 if self.training else time.monotonic() - self.seen

    def working(self, work: asyncio.Future[T]) -> asyncio.Future[T]:
        """Follow work on the session, which goes on when its stream breaks; returns what to await.

        What breaks with the stream is the waiting alone.
        """
        self._work = work
        waiting = asyncio.shield(work)
        for future in (work, waiting):
            future.add_done_callback(_heard)
        return waiting

    def writing(self, written: asyncio.Future[Any]) -> None:
        """Follow the writing of a snapshot, during which weights and moments must not change."""
        self._writing = written

    async def written(self) -> None:
        """Wait until no snapshot is being written."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])

    async def quiet(self) -> None:
        """Wait until nothing is done to it any more."""
        if self._work is not None and not self._work.done():
            await asyncio.wait([self._work])
        await self.written()

    def take_notice(self) -> str:
        """Return what the person at the edge should know, once."""
        notice, self.notice = self.notice, ""
        return notice


class Visit:
    """A stream's hold on a session: the newest stream has it, an older one has lost it.

    Args:
        hosted: the session.
        stop: ends the stream.
    """

    def __init__(self, hosted: Hosted, stop: Stop) -> None:
        self.hosted, self._stop = hosted, stop
        self._reason: SftError = ForbiddenError(
            "the session was taken up by another stream; this one has lost it"
        )
        if hosted.visit is not None:
            hosted.visit.end()
        hosted.visit = self
        hosted.seen = time.monotonic()

    @property
    def session(self) -> Session:
        """The session."""
        return self.hosted.session

    @property
    def current(self) -> bool:
        """Whether the stream still has the session."""
        return self.hosted.visit is self

    def seen(self) -> None:
        """Note that a request has come.

        Raises:
            SftError: the session was taken away from the stream; says why.
        """
        if not self.current:
            raise self._reason
        self.hosted.seen = time.monotonic()

    def end(self, reason: SftError | None = None) -> None:
        """Take the session away from the stream, which ends with an error.

        Args:
            reason: why; None: for another stream.
        """
        self._reason = reason or self._reason
        self.leave()
        self._stop(self._reason)

    def leave(self) -> None:
        """Give the session back; safe to repeat."""
        if self.current:
            self.hosted.visit = None
            self.hosted.seen = time.monotonic()


def _heard(work: asyncio.Future[Any]) -> None:
    """Look at how work ended, or asyncio would log what nobody awaits any more as a defect."""
    if not work.cancelled():
        work.exception()
