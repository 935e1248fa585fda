"""Sessions in memory: the room they take, who waits longest, and how they are put away to disk.

It knows neither models nor what a session is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from sft_cloud.admission import Admission, Need
from sft_cloud.hosted import Hosted
from sft_cloud.shelf import Shelf
from sft_common.errors import CapacityError, SnapshotError
from sft_common.position import Position

log = logging.getLogger(__name__)


class Residents:
    """The sessions that one cloud has in memory, by name.

    Args:
        admission: says whether one more fits.
        shelf: takes those that are put away; None: they are forgotten.
    """

    def __init__(self, admission: Admission, shelf: Shelf | None) -> None:
        self.admission, self._shelf = admission, shelf
        self._sessions: dict[str, Hosted] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __iter__(self) -> Iterator[Hosted]:
        """Iterate over those that are here now, whoever comes or goes meanwhile."""
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        """Return how many are here."""
        return len(self._sessions)

    def get(self, session_id: str) -> Hosted | None:
        """Return a session, if it is here."""
        return self._sessions.get(session_id)

    def lock(self, session_id: str) -> asyncio.Lock:
        """Return the lock under which a session goes to disk or comes back."""
        return self._locks.setdefault(session_id, asyncio.Lock())

    @asynccontextmanager
    async def room(self, need: Need) -> AsyncIterator[None]:
        """Reserve what a session needs; given back if the block fails.

        Sessions whose edges are gone are put away for it, the one that has waited longest first.

        Raises:
            CapacityError: there is no room now.
            LimitError: there will never be.
        """
        for hosted in self.waiting():
            try:
                self.admission.check(need)
                break
            except CapacityError:
                await self.put_away(hosted)
        self.admission.check(need)
        self.admission.take(need)
        try:
            yield
        except BaseException:
            self.admission.give_back(need)
            raise

    def add(self, hosted: Hosted) -> None:
        """Take in a session for which room was made."""
        self._sessions[hosted.record.session] = hosted

    def waiting(self) -> list[Hosted]:
        """Return the sessions whose edges are gone, the one that has waited longest first."""
        waiting = [hosted for hosted in self if hosted.visit is None and not hosted.training]
        return sorted(waiting, key=lambda hosted: hosted.seen)

    async def put_away(self, hosted: Hosted) -> bool:
        """Write a session to disk and free its memory; returns whether it is on disk.

        One that the disk does not take stays in memory.
        """
        async with self.lock(hosted.record.session):
            gone = self.get(hosted.record.session) is not hosted
            if gone or hosted.visit is not None or hosted.training:
                return False
            await hosted.quiet()
            worth = hosted.position > Position() and not (hosted.stored or hosted.passing)
            kept = self._shelf is not None and worth
            if kept:
                assert self._shelf is not None
                try:
                    await self._shelf.put_away(hosted)
                except SnapshotError as error:
                    log.error(
                        "session %s stays in memory: %s",
                        hosted.record.session,
                        error,
                        extra=hosted.about.extra(),
                    )
                    return False
            self.drop(hosted)
            return kept

    def drop(self, hosted: Hosted) -> None:
        """Free the memory of a session; safe to repeat."""
        if self.get(hosted.record.session) is hosted:
            del self._sessions[hosted.record.session]
            self.admission.give_back(hosted.need)
            if hosted.cache is not None and not hosted.training:
                hosted.cache.close()
            hosted.gone.set()
            log.info(
                "session %s left memory after %d steps",
                hosted.record.session,
                hosted.session.applied,
                extra=hosted.about.extra(),
            )
