"""Who gets the device next: one worker thread, first come first served. It knows no tensors.

Loading a model runs beside it, so that an opening session does not hold up the steps of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Scheduler:
    """Runs blocking work off the event loop."""

    def __init__(self) -> None:
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="loading")

    def compute(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue work for the device; the future holds its result."""
        return _run(self._device, partial(work, *args, **kwargs))

    def load(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue reading or writing of models; the future holds its result."""
        return _run(self._loading, partial(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs and end the threads."""
        self._device.shutdown()
        self._loading.shutdown()


def _run(pool: ThreadPoolExecutor, work: Callable[[], R]) -> asyncio.Future[R]:
    return asyncio.get_running_loop().run_in_executor(pool, work)
