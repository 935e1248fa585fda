"""Who computes where: the device's thread, or the event loop for what is known to be short."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest

from sft_cloud.scheduler import SHORT_SECONDS, Scheduler, Turns

DEVICE = "device_0"


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
    return threading.current_thread().name


def run(story: Callable[[str], Awaitable[None]]) -> None:
    async def main() -> None:
        await story(threading.current_thread().name)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_work_that_was_short_the_last_time_stays_on_the_loop(scheduler: Scheduler) -> None:
    clock = Clock()
    turns = Turns(scheduler, clock)

    async def story(loop: str) -> None:
        threads = []
        for seconds in (0.0, 0.0, 1.0, 0.0, 0.0):
            threads.append(await turns.compute(1, taking, clock, seconds))
        assert threads == [DEVICE, loop, loop, DEVICE, loop]

    run(story)


def test_the_limit_itself_is_long(scheduler: Scheduler) -> None:
    clock = Clock()
    turns = Turns(scheduler, clock)

    async def story(loop: str) -> None:
        for _ in range(3):
            assert await turns.compute(1, taking, clock, SHORT_SECONDS) == DEVICE

    run(story)


def test_a_scheduler_may_keep_everything_off_the_loop() -> None:
    """With torch.compile a short step says nothing of the next."""
    scheduler, clock = Scheduler(1, short_seconds=0), Clock()
    turns = Turns(scheduler, clock)

    async def story(loop: str) -> None:
        for _ in range(3):
            assert await turns.compute(1, taking, clock, 0.0) == DEVICE

    run(story)
    scheduler.close()


def test_a_larger_batch_is_not_taken_for_as_short_as_a_small_one(scheduler: Scheduler) -> None:
    """One of a single token must not bring the next, of thousands, onto the loop."""
    clock, small, seconds = Clock(), 10, SHORT_SECONDS / 5
    turns = Turns(scheduler, clock)

    async def story(loop: str) -> None:
        assert await turns.compute(small, taking, clock, seconds) == DEVICE
        assert await turns.compute(small, taking, clock, seconds) == loop
        assert await turns.compute(2 * small, taking, clock, seconds) == loop
        assert await turns.compute(1, taking, clock, seconds) == loop
        assert await turns.compute(3, taking, clock, seconds) == DEVICE

    run(story)


def test_each_kind_of_work_is_known_by_itself(scheduler: Scheduler) -> None:
    """A short update does not bring the long step before it onto the loop."""
    clock = Clock()
    turns = Turns(scheduler, clock)

    def update() -> str:
        return taking(clock, 0.0)

    async def story(loop: str) -> None:
        for _ in range(3):
            assert await turns.compute(1, taking, clock, 1.0) == DEVICE
            last = await turns.compute(1, update)
        assert last == loop

    run(story)


@pytest.mark.parametrize("kind", ["compute", "files"])
def test_short_work_goes_to_the_device_while_a_thread_is_busy(
    scheduler: Scheduler, kind: str
) -> None:
    """Behind what the device has to do; beside a model that is loaded, whose locks it may need."""
    turns = Turns(scheduler, Clock())
    go, order = threading.Event(), list[str]()

    def long() -> None:
        go.wait(60)
        order.append("long")

    def short() -> str:
        order.append("short")
        return threading.current_thread().name

    async def story(loop: str) -> None:
        await turns.compute(1, short)
        first = getattr(scheduler, kind)(long)
        cancelled = getattr(scheduler, kind)(order.append, "cancelled")
        second = turns.compute(1, short)
        cancelled.cancel()
        await asyncio.sleep(0)
        third = turns.compute(1, short)
        if kind == "compute":
            await asyncio.sleep(0.05)
            assert not second.done() and not third.done()
        else:
            assert await second == await third == DEVICE
        go.set()
        await asyncio.gather(first, second, third)
        assert "cancelled" not in order
        assert await turns.compute(1, short) == loop

    run(story)


@pytest.mark.parametrize(
    ("scheduling", "order"),
    [("fifo", ["fast", "nobody", "slow"]), ("longest-first", ["slow", "fast", "nobody"])],
)
def test_who_waits_is_served_as_the_rule_says(scheduling: str, order: list[str]) -> None:
    """What an edge takes by itself is between an answer and the request that follows it."""
    scheduler, clock = Scheduler(1, scheduling=scheduling), Clock()
    turns = {"fast": Turns(scheduler, clock), "slow": Turns(scheduler, clock)}
    go, served = threading.Event(), list[str]()

    async def story(loop: str) -> None:
        for name, own in (("fast", 1.0), ("slow", 5.0)):
            turns[name].came(clock.now, begins=True)
            turns[name].answered()
            clock.now += own
            turns[name].came(clock.now, begins=True)
        first = scheduler.compute(go.wait, 60)
        waiting = [
            turns["fast"].compute(1, served.append, "fast"),
            scheduler.compute(served.append, "nobody"),
            turns["slow"].compute(1, served.append, "slow"),
        ]
        go.set()
        await asyncio.gather(first, *waiting)

    run(story)
    scheduler.close()
    assert served == order


def test_what_was_done_is_not_kept(scheduler: Scheduler) -> None:
    """Nor its result: of a step that is a whole gradient."""
    clock = Clock()
    turns = Turns(scheduler, clock)

    async def story(loop: str) -> None:
        for _ in range(20):
            await turns.compute(1, taking, clock, 1.0)
            await scheduler.files(taking, clock, 1.0)
        assert not scheduler._busy

    run(story)


def test_an_error_is_raised_where_the_work_is_awaited_and_holds_nothing(
    scheduler: Scheduler,
) -> None:
    """A session that failed gives its memory back without waiting for a garbage collection."""
    turns = Turns(scheduler, Clock())

    class Model:
        """What the work is about."""

    def broken(model: Model) -> None:
        raise ValueError(threading.current_thread().name)

    async def story(loop: str) -> None:
        for where in (DEVICE, loop):
            model = Model()
            alive = weakref.ref(model)
            with pytest.raises(ValueError, match=where):
                await turns.compute(1, broken, model)
            del model
            await asyncio.sleep(0.05)  # a thread may still be putting its work away
            assert alive() is None

    gc.disable()
    try:
        run(story)
    finally:
        gc.enable()


@pytest.mark.parametrize("code", [0, 1])
def test_a_process_ends_in_the_midst_of_a_step_that_never_does(code: int) -> None:
    """Python waits for threads of a pool when it ends; the grace time would mean nothing."""
    script = f"""
import asyncio, time
from sft_cloud.scheduler import Scheduler
from sft_cloud.serve import leave

async def stop_while_a_step_runs():
    scheduler = Scheduler(1)
    scheduler.compute(time.sleep, 10_000)
    await asyncio.sleep(0.1)
    scheduler.close()
    return scheduler

leave(asyncio.run(stop_while_a_step_runs()), {code})
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == code
