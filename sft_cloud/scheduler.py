"""Who gets the device next: one worker thread, first come first served. It knows no tensors.

A stream whose work is short does it on the event loop while nobody waits for the device: two hops
between threads would take longer.

Loading and keeping models runs beside it, each session on a thread of its own, so that neither a
slow hub nor a slow disk holds up anybody else.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

SHORT_SECONDS = 0.002
"""Work that took less the last time may run on the event loop."""


class Scheduler:
    """Runs blocking work off the event loop.

    Args:
        max_sessions: sessions that may load or keep a model at once.
    """

    def __init__(self, max_sessions: int) -> None:
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._queued: deque[Future[Any]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._files = ThreadPoolExecutor(max_sessions, thread_name_prefix="files")

    def compute(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue work for the device; the future holds its result."""
        queued = self._device.submit(work, *args, **kwargs)
        self._queued.append(queued)
        return asyncio.wrap_future(queued)

    @property
    def idle(self) -> bool:
        """Whether the device has nothing to do."""
        while self._queued and self._queued[0].done():
            self._queued.popleft()
        return not self._queued

    def files(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Start reading or writing of models; the future holds its result."""
        return asyncio.wrap_future(self._files.submit(work, *args, **kwargs))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine run on after the caller has gone."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End the threads; a fetch from a hub that still runs is not waited for."""
        self._device.shutdown()
        self._files.shutdown(wait=False, cancel_futures=True)


class Turns:
    """What one stream asks of the device, one thing after another.

    Args:
        scheduler: of the device.
        clock: tells seconds.
    """

    def __init__(
        self, scheduler: Scheduler, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._scheduler, self._clock = scheduler, clock
        self._took: dict[Callable[..., Any], float] = {}

    def compute(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Do work at once if it is known to be short, else queue it; the future has the result."""
        timed = partial(self._timed, work, *args, **kwargs)
        if self._took.get(work, math.inf) >= SHORT_SECONDS or not self._scheduler.idle:
            return self._scheduler.compute(timed)
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        try:
            done.set_result(timed())
        except Exception as error:
            done.set_exception(error)
        return done

    def _timed(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        begin = self._clock()
        try:
            return work(*args, **kwargs)
        finally:
            self._took[work] = self._clock() - begin
