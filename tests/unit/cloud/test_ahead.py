"""Reading ahead of the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from sft_cloud.ahead import ahead


class Source:
    """Counts what is read from it."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error, self.read, self.closed = count, error, 0, False

    async def items(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                await asyncio.sleep(0)
                self.read += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_everything_comes_in_order_with_its_time() -> None:
    async def run() -> list[tuple[int, float]]:
        return [pair async for pair in ahead(Source(7).items(), 2)]

    pairs = asyncio.run(run())
    assert [item for item, _ in pairs] == list(range(7))
    assert [time for _, time in pairs] == sorted(time for _, time in pairs)


def test_no_more_is_read_than_may_wait() -> None:
    async def run() -> None:
        source = Source(9)
        async with aclosing(ahead(source.items(), 2)) as items:
            assert (await anext(items))[0] == 0
            await settled()
            assert source.read == 4, "one is worked on, two wait, the reader holds one"
        await settled()
        assert source.closed

    asyncio.run(run())


def test_an_error_comes_after_what_was_read_before_it() -> None:
    async def run() -> list[int]:
        seen = []
        with pytest.raises(ValueError, match="torn"):
            async for item, _ in ahead(Source(3, ValueError("torn")).items(), 2):
                seen.append(item)
        return seen

    assert asyncio.run(run()) == [0, 1, 2]
