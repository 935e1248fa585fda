"""Who takes part in a federation: clients that are there, or were a moment ago. It knows no rounds.

A client is there while it has a stream open; without one it counts as there for a while, for a
connection may break.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sft_common.errors import CapacityError, ForbiddenError, SftError
from sft_common.federation.plan import MAX_CLIENTS

T = TypeVar("T")

TAKEN_OVER = "another program takes part as this client; this one has lost its place"


class Seat(Generic[T]):
    """One stream of a client, and what it is to be told.

    Args:
        client: its name.
    """

    def __init__(self, client: str) -> None:
        self.client = client
        self._said: deque[T | SftError | None] = deque()
        self._news = asyncio.Event()

    def say(self, what: T) -> None:
        """Tell it something."""
        self._tell(what)

    def take_back(self, what: T) -> bool:
        """Return whether something was not heard yet, which then never will be."""
        before = len(self._said)
        self._said = deque(said for said in self._said if said is not what)
        return len(self._said) < before

    def end(self, reason: SftError | None = None) -> None:
        """End its stream, once it has heard all; with an error, if there is a reason."""
        self._tell(reason)

    async def hear(self) -> T | None:
        """Return what comes next; None: the end.

        Raises:
            SftError: the stream ends for this reason.
        """
        while not self._said:
            self._news.clear()
            await self._news.wait()
        said = self._said.popleft()
        if isinstance(said, SftError):
            raise said
        return said

    def _tell(self, what: T | SftError | None) -> None:
        self._said.append(what)
        self._news.set()


class _Member(Generic[T]):
    """A client and its stream, if it has one."""

    def __init__(self, owner: str) -> None:
        self.owner, self.incarnation = owner, 0
        self.seat: Seat[T] | None = None
        self.waiting: asyncio.TimerHandle | None = None


class Members(Generic[T]):
    """All clients of one federation, at most `MAX_CLIENTS` by name.

    Args:
        patience_seconds: so long a client without a stream counts as there.
        gone: is told of a client that does so no more.
    """

    def __init__(self, patience_seconds: float, gone: Callable[[str], None]) -> None:
        self._patience, self._gone = patience_seconds, gone
        self._members: dict[str, _Member[T]] = {}
        self._owners: dict[str, str] = {}
        self._changed = asyncio.Event()

    @property
    def present(self) -> list[str]:
        """Names of those that are there, sorted."""
        return sorted(self._members)

    @property
    def known(self) -> list[str]:
        """Names of all that ever were, sorted."""
        return sorted(self._owners)

    def seat(self, client: str) -> Seat[T] | None:
        """Return the stream of a client, if it has one."""
        member = self._members.get(client)
        return member.seat if member else None

    def sit(self, client: str, owner: str, incarnation: int) -> Seat[T]:
        """Give a stream its client's place; an older stream loses it.

        Raises:
            ForbiddenError: the name belongs to another edge.
            CapacityError: so many have come that no more are taken.
        """
        if client not in self._owners and len(self._owners) >= MAX_CLIENTS:
            raise CapacityError(
                f"the federation has {MAX_CLIENTS:,} clients, and takes no more; join as one of "
                "them"
            )
        if self._owners.setdefault(client, owner) != owner:
            raise ForbiddenError(f"client {client} of this federation is another edge's")
        member = self._members.setdefault(client, _Member(owner))
        if member.waiting is not None:
            member.waiting.cancel()
            member.waiting = None
        if member.seat is not None:
            member.seat.end(ForbiddenError(TAKEN_OVER))
        member.seat, member.incarnation = Seat(client), incarnation
        self._change()
        return member.seat

    def check(self, client: str, owner: str, incarnation: int) -> None:
        """Refuse a program that is not what a client is now.

        Raises:
            ForbiddenError: says why.
        """
        if self._owners.get(client, owner) != owner:
            raise ForbiddenError(f"client {client} of this federation is another edge's")
        member = self._members.get(client)
        if member is not None and member.incarnation != incarnation:
            raise ForbiddenError(TAKEN_OVER)

    def leave(self, seat: Seat[T]) -> None:
        """Take note that a stream has ended; safe to repeat."""
        member = self._members.get(seat.client)
        if member is None or member.seat is not seat:
            return
        member.seat = None
        loop = asyncio.get_running_loop()
        member.waiting = loop.call_later(self._patience, self._forget, seat.client)

    def end(self, reason: SftError | None = None) -> None:
        """End all streams."""
        for member in self._members.values():
            if member.seat is not None:
                member.seat.end(reason)

    async def at_least(self, count: int, short: Callable[[int], None]) -> list[str]:
        """Wait until so many are there; returns their names, sorted.

        Args:
            count: how many are needed.
            short: is told how many are there while they are too few, whenever that changes.
        """
        told = -1
        while (there := len(self._members)) < count:
            if there != told:
                short(told := there)
            self._changed.clear()
            await self._changed.wait()
        return self.present

    def _forget(self, client: str) -> None:
        self._members.pop(client, None)
        self._change()
        self._gone(client)

    def _change(self) -> None:
        self._changed.set()
