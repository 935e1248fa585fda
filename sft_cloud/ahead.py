"""Reads a stream ahead of whoever works on it, so that the next request arrives meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Iterates over items with the time at which each came, by `time.perf_counter`.

    Close it when done.

    Args:
        items: what is read; its error is raised where the item would have been.
        depth: items that may wait; one more is held by the reader.
    """

    def __init__(self, items: AsyncGenerator[T], depth: int) -> None:
        self._waiting: asyncio.Queue[tuple[T, float] | Exception | None] = asyncio.Queue(depth)
        self._stopped: Exception | None = None
        self._reader = asyncio.create_task(self._read(items))

    def __aiter__(self) -> Ahead[T]:
        return self

    async def __anext__(self) -> tuple[T, float]:
        if self._stopped is not None:
            raise self._stopped
        item = await self._waiting.get()
        if isinstance(item, Exception):
            raise item
        if item is None:
            raise StopAsyncIteration
        return item

    def stop(self, error: Exception) -> None:
        """Have `error` raised in place of the next item; what waits is left out."""
        self.close()
        self._stopped = error
        if self._waiting.empty():  # somebody may wait for an item
            self._waiting.put_nowait(error)

    def close(self) -> None:
        """Read no further; safe to repeat."""
        self._reader.cancel()

    async def _read(self, items: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    await self._waiting.put((item, time.perf_counter()))
            await self._waiting.put(None)
        except Exception as error:
            await self._waiting.put(error)
