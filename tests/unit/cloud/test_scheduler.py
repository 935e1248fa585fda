"""Who computes where: the device's thread, or the event loop for what is known to be short."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from sft_cloud.scheduler import SHORT_SECONDS, Scheduler, Turns


class Clock:
    """Tells what it was set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(1)
    yield scheduler
    scheduler.close()


def taking(clock: Clock, seconds: float) -> str:
    """Work of that length; returns the thread that does it."""
    clock.now += seconds
    return threading.current_thread().name.split("_")[0]


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await story()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_work_that_was_short_the_last_time_stays_on_the_loop(scheduler: Scheduler) -> None:
    clock = Clock()
    turns = Turns(scheduler, clock)

    async def story() -> None:
        here = threading.current_thread().name
        threads = []
        for seconds in (0.0, 0.0, 1.0, 0.0, 0.0):
            threads.append(await turns.compute(taking, clock, seconds))
        assert threads == ["device", here, here, "device", here]

    run(story)


def test_what_takes_as_long_as_a_hop_pays_is_long(scheduler: Scheduler) -> None:
    clock = Clock()
    turns = Turns(scheduler, clock)

    async def story() -> None:
        for _ in range(3):
            assert await turns.compute(taking, clock, SHORT_SECONDS) == "device"

    run(story)


def test_each_kind_of_work_is_known_by_itself(scheduler: Scheduler) -> None:
    """A short update does not bring the long step before it onto the loop."""
    clock = Clock()
    turns = Turns(scheduler, clock)

    def update() -> str:
        return taking(clock, 0.0)

    async def story() -> None:
        for _ in range(3):
            assert await turns.compute(taking, clock, 1.0) == "device"
            last = await turns.compute(update)
        assert last == threading.current_thread().name

    run(story)


def test_short_work_waits_its_turn_behind_what_the_device_has_to_do(scheduler: Scheduler) -> None:
    clock = Clock()
    turns = Turns(scheduler, clock)
    go, order = threading.Event(), list[str]()

    def long() -> None:
        go.wait(60)
        order.append("long")

    def short() -> None:
        order.append("short")

    async def story() -> None:
        await turns.compute(short)
        first = scheduler.compute(long)
        cancelled = scheduler.compute(order.append, "cancelled")
        second = turns.compute(short)
        cancelled.cancel()
        await asyncio.sleep(0)
        third = turns.compute(short)
        assert not second.done() and not third.done()
        go.set()
        await asyncio.gather(first, second, third)
        assert order == ["short", "long", "short", "short"]
        assert scheduler.idle
        assert turns.compute(short).done()

    run(story)


def test_an_error_is_raised_where_the_work_is_awaited(scheduler: Scheduler) -> None:
    turns = Turns(scheduler, Clock())

    def broken() -> None:
        raise ValueError("no such step")

    async def story() -> None:
        for _ in range(2):  # on the device's thread, then on the loop
            with pytest.raises(ValueError, match="no such step"):
                await turns.compute(broken)

    run(story)
