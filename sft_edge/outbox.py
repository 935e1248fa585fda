"""Requests on their way out, bounded: who makes them faster than they leave has to wait."""

from __future__ import annotations

import threading
from collections import deque


class Outbox:
    """What one thread puts in and another iterates over, in order.

    Args:
        limit_bytes: of requests that wait to be taken; one alone may be larger.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, request: bytes) -> bool:
        """Append a request, once there is room for it; returns False if it was closed before."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._bytes or self._bytes + len(request) <= self._limit
            )
            if not self._closed:
                self._waiting.append(request)
                self._bytes += len(request)
                self._changed.notify_all()
            return not self._closed

    def close(self) -> None:
        """End the iteration behind what was put in; safe to repeat."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Outbox:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                raise StopIteration
            request = self._waiting.popleft()
            self._bytes -= len(request)
            self._changed.notify_all()
            return request
