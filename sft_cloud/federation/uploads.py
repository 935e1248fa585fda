"""Updates on their way in, piece by piece, as long as somebody waits for them. It knows no tensors.

A client has one upload at a time, so that what one client makes the cloud hold has an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from sft_common.errors import ProtocolError


class Uploads:
    """The updates that are being handed in to one cloud.

    Args:
        piece_seconds: within which the next piece must come.
    """

    def __init__(self, piece_seconds: float) -> None:
        self._piece_seconds = piece_seconds
        self._limits: dict[tuple[str, str], asyncio.Timeout] = {}

    async def read(
        self,
        whose: tuple[str, str],
        pieces: AsyncIterator[bytes],
        following: int,
        wanted: Callable[[], object],
        keep: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Read the bytes that follow a header.

        Args:
            whose: federation and client; a newer upload of theirs ends this one.
            pieces: of the bytes.
            following: how many they are.
            wanted: asked with each piece; raises if nobody waits for it any more.
            keep: given each piece, in order.

        Raises:
            ProtocolError: more or fewer come than were announced, or too slowly.
        """
        came, loop = 0, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                with self._only(whose, limit):
                    while came < following:
                        limit.reschedule(loop.time() + self._piece_seconds)
                        piece = await anext(pieces)
                        wanted()
                        if not piece:
                            raise ProtocolError("a piece of an update is empty")
                        came += len(piece)
                        if came > following:
                            break
                        await keep(piece)
        except (StopAsyncIteration, TimeoutError):
            raise ProtocolError(f"{came:,} of {following:,} bytes of an update came") from None
        if came > following:
            raise ProtocolError(f"{came:,} bytes came, {following:,} were announced")

    @contextmanager
    def _only(self, whose: tuple[str, str], limit: asyncio.Timeout) -> Iterator[None]:
        """Have this be a client's only upload: the one before is out of time."""
        older = self._limits.get(whose)
        self._limits[whose] = limit
        if older is not None and not older.expired():
            older.reschedule(0)
        try:
            yield
        finally:
            if self._limits.get(whose) is limit:
                del self._limits[whose]
