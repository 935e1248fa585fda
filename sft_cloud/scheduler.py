"""The device's one worker thread, which sessions share (fairness.py). It knows no tensors.

A stream's work that is known to be short is done on the event loop while no thread is busy: a hop
to a thread and back would take as long.

Loading and keeping models runs beside it, each session on a thread of its own, so that neither a
slow hub nor a slow disk holds up anybody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, ParamSpec, TypeVar

from sft_cloud.away import Away
from sft_cloud.fairness import QUEUES, Queue, Share

P = ParamSpec("P")
R = TypeVar("R")

SHORT_SECONDS = 0.002
"""Work that will take less may run on the event loop."""


class Scheduler:
    """Runs blocking work off the event loop.

    Args:
        max_sessions: sessions that may load or keep a model at once.
        short_seconds: what `Turns` may do on the event loop; 0: nothing.
        scheduling: who gets the device next, one of `QUEUES`.
    """

    def __init__(
        self,
        max_sessions: int,
        *,
        short_seconds: float = SHORT_SECONDS,
        scheduling: str = "fair",
    ) -> None:
        self.short_seconds, self.scheduling = short_seconds, scheduling
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._queue: Queue[tuple[Future[Any], Callable[[], Any]]] = QUEUES[scheduling]()
        self._nobody = Share(own_seconds=0.0)
        self._busy: set[Future[Any]] = set()
        self._files = ThreadPoolExecutor(max_sessions, thread_name_prefix="files")

    def compute(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue work for the device that is nobody's session's; the future holds its result.

        All such work has one session's share: however much there is, it neither starves others nor
        is starved.
        """
        return self.compute_for(self._nobody, partial(work, *args, **kwargs))

    def compute_for(self, share: Share, work: Callable[[], R]) -> asyncio.Future[R]:
        """Queue work of a session for the device; the future holds its result."""
        future: Future[R] = Future()
        self._queue.put(share, (future, work))
        self._device.submit(self._do_next)
        return self._followed(future)

    def charge(self, share: Share, seconds: float) -> None:
        """Count what a session had of the device without queueing."""
        self._queue.charge(share, seconds)

    def _do_next(self) -> None:
        (future, work), share = self._queue.take()
        if not future.set_running_or_notify_cancel():
            return
        begin = time.perf_counter()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._queue.charge(share, time.perf_counter() - begin)
            del future, work  # or an error would hold its session by this frame

    @property
    def idle(self) -> bool:
        """Whether no thread has anything to do, not even a model to load."""
        return not self._busy

    @property
    def queue_depth(self) -> int:
        """Pieces of work that wait for the device, that at work not counted."""
        return len(self._queue)

    def files(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Start reading or writing of models; the future holds its result."""
        return self._followed(self._files.submit(work, *args, **kwargs))

    def _followed(self, started: Future[R]) -> asyncio.Future[R]:
        self._busy.add(started)
        started.add_done_callback(self._busy.discard)  # before whoever awaits it goes on
        return asyncio.wrap_future(started)

    def close(self) -> None:
        """Begin nothing more; what runs is not waited for, see `idle`."""
        self._device.shutdown(wait=False, cancel_futures=True)
        self._files.shutdown(wait=False, cancel_futures=True)


class Took(NamedTuple):
    """What a kind of work needed the last time."""

    seconds: float
    size: int


class Turns:
    """What one session asks of the device, one thing after another.

    Args:
        scheduler: of the device.
        clock: tells seconds.
    """

    def __init__(
        self, scheduler: Scheduler, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._scheduler, self._clock = scheduler, clock
        self._share, self._away = Share(), Away()
        self._took: dict[Callable[..., Any], Took] = {}

    def compute(
        self, size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[R]:
        """Do work at once if it is known to be short, else queue it; the future has the result.

        Args:
            size: of the work; twice of it may take up to four times as long, as attention does.
            work: what to do.
            args: what with.
            kwargs: the same.
        """
        timed = partial(self._timed, size, work, *args, **kwargs)
        if not (self._is_short(size, work) and self._scheduler.idle):
            return self._scheduler.compute_for(self._share, timed)
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        try:
            done.set_result(timed())
        except Exception as error:
            done.set_exception(error)
        try:
            self._scheduler.charge(self._share, time.perf_counter() - begin)
            return done
        finally:
            del done  # or an error would hold it, by this frame, and all that it was about

    def came(self, arrived: float, *, begins: bool = False) -> None:
        """Notice when a request was there, and whether a step begins with it."""
        self._away.came(arrived, begins=begins)
        self._share.own_seconds = self._away.seconds

    def answered(self) -> None:
        """Notice that an answer is handed over now: the edge goes on by itself."""
        self._away.answered(self._clock())

    def interrupted(self) -> None:
        """Leave the step under way out of what the edge takes by itself."""
        self._away.interrupted()

    def _is_short(self, size: int, work: Callable[..., Any]) -> bool:
        took = self._took.get(work)
        if took is None:
            return False
        seconds = took.seconds * max(1.0, size / took.size) ** 2
        return seconds < self._scheduler.short_seconds

    def _timed(self, size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        begin = self._clock()
        try:
            return work(*args, **kwargs)
        finally:
            self._took[work] = Took(self._clock() - begin, size)
