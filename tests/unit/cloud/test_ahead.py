"""Reading ahead of the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from sft_cloud.ahead import Ahead


class Source:
    """Counts what is read from it."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error, self.read, self.closed = count, error, 0, False

    async def items(self) -> AsyncGenerator[int]:
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
        return [pair async for pair in Ahead(Source(7).items(), 2)]

    pairs = asyncio.run(run())
    assert [item for item, _ in pairs] == list(range(7))
    assert [time for _, time in pairs] == sorted(time for _, time in pairs)


def test_no_more_is_read_than_may_wait() -> None:
    async def run() -> None:
        source = Source(9)
        items = Ahead(source.items(), 2)
        assert (await anext(items))[0] == 0
        await settled()
        assert source.read == 4, "one is worked on, two wait, the reader holds one"
        items.close()
        await settled()
        assert source.closed

    asyncio.run(run())


def test_an_error_comes_after_what_was_read_before_it() -> None:
    async def run() -> list[int]:
        seen = []
        with pytest.raises(ValueError, match="torn"):
            async for item, _ in Ahead(Source(3, ValueError("torn")).items(), 2):
                seen.append(item)
        return seen

    assert asyncio.run(run()) == [0, 1, 2]


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_who_is_stopped_hears_why_in_place_of_what_waits(taken: int) -> None:
    async def run() -> None:
        items = Ahead(Source(9).items(), 2)
        for number in range(taken):
            assert (await anext(items))[0] == number
        await settled()
        items.stop(ValueError("enough"))
        for _ in range(2):
            with pytest.raises(ValueError, match="enough"):
                await anext(items)

    asyncio.run(run())


def test_who_waits_for_an_item_is_woken_when_stopped() -> None:
    async def run() -> None:
        forever = asyncio.Event()

        async def nothing() -> AsyncGenerator[int]:
            await forever.wait()
            yield 0

        items = Ahead(nothing(), 2)
        waiting = asyncio.create_task(anext(items))
        await settled()
        items.stop(ValueError("enough"))
        with pytest.raises(ValueError, match="enough"):
            await waiting

    asyncio.run(run())
