"""Requests on their way out, bounded: who makes them faster than they leave has to wait."""

from __future__ import annotations

import queue
import threading
import time


class Outbox:
    """What one thread puts in and another iterates over, in order.

    Args:
        limit_bytes: of requests that wait to be taken; one alone may be larger.
        seconds: for which one waits for room.
    """

    def __init__(self, limit_bytes: int, seconds: float) -> None:
        self._limit, self._seconds = limit_bytes, seconds
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, request: bytes) -> float | None:
        """Append a request, once there is room for it.

        Returns:
            The seconds that it waited for that; None if it was closed before.

        Raises:
            TimeoutError: there was none for too long.
        """
        with self._changed:
            waited = 0.0 if self._fits(request) else self._wait(request)
            if self._closed:
                return None
            self._bytes += len(request)
            self._waiting.put(request)
            return waited

    def _fits(self, request: bytes) -> bool:
        return self._closed or not self._bytes or self._bytes + len(request) <= self._limit

    def _wait(self, request: bytes) -> float:
        begin = time.perf_counter()
        if not self._changed.wait_for(lambda: self._fits(request), self._seconds):
            raise TimeoutError
        return time.perf_counter() - begin

    def close(self) -> None:
        """End the iteration behind what was put in; safe to repeat."""
        with self._changed:
            self._closed = True
            self._waiting.put(None)
            self._changed.notify_all()

    def __iter__(self) -> Outbox:
        return self

    def __next__(self) -> bytes:
        request = self._waiting.get()  # not under the condition: who waits here is woken faster
        if request is None:
            self._waiting.put(None)
            raise StopIteration
        with self._changed:
            self._bytes -= len(request)
            self._changed.notify_all()
        return request
