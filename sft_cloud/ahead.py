"""Reads a stream ahead of whoever works on it, so that the next request arrives meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def ahead(items: AsyncIterator[T], depth: int) -> AsyncGenerator[tuple[T, float]]:
    """Yield items with the time at which each came, by `time.perf_counter`.

    Args:
        items: what is read; its error is raised where the item would have been.
        depth: items that may wait; one more is held by the reader.
    """
    waiting: asyncio.Queue[tuple[T, float] | Exception | None] = asyncio.Queue(depth)

    async def read() -> None:
        try:
            async for item in items:
                await waiting.put((item, time.perf_counter()))
            await waiting.put(None)
        except Exception as error:
            await waiting.put(error)

    reader = asyncio.create_task(read())
    try:
        while (item := await waiting.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        reader.cancel()
