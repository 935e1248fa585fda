"""Who gets the device next: one worker thread, first come first served. It knows no tensors.

Loading and keeping models runs beside it, each session on a thread of its own, so that neither a
slow hub nor a slow disk holds up anybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Scheduler:
    """Runs blocking work off the event loop.

    Args:
        max_sessions: sessions that may load or keep a model at once.
    """

    def __init__(self, max_sessions: int) -> None:
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._tasks: set[asyncio.Task[None]] = set()
        self._files = ThreadPoolExecutor(max_sessions, thread_name_prefix="files")

    def compute(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue work for the device; the future holds its result."""
        return _run(self._device, partial(work, *args, **kwargs))

    def files(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Start reading or writing of models; the future holds its result."""
        return _run(self._files, partial(work, *args, **kwargs))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine run on after the caller has gone."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End the threads; a fetch from a hub that still runs is not waited for."""
        self._device.shutdown()
        self._files.shutdown(wait=False, cancel_futures=True)


def _run(pool: ThreadPoolExecutor, work: Callable[[], R]) -> asyncio.Future[R]:
    return asyncio.get_running_loop().run_in_executor(pool, work)
