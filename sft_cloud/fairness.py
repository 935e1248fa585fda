"""Who gets the device next: whoever has had the least of it. It knows no work.

Start-time fair queueing (Goyal et al. 1996): work gets the time at which its session would begin it
if the device were shared evenly, and the earliest comes first. A session that was away begins with
the others, it does not catch up on what it did not ask for.
"""

from __future__ import annotations

import heapq
import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Share:
    """What one session has had of a device, on the clock of its queue."""

    def __init__(self) -> None:
        self.end = 0.0
        """When its last work ended, in seconds of even sharing."""


class FairQueue(Generic[T]):
    """Work of many sessions that waits for one device; threads may share it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, T, Share]] = []
        self._now, self._count = 0.0, 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, share: Share, work: T) -> None:
        """Append work of a session."""
        with self._lock:
            self._count += 1
            begin = max(share.end, self._now)
            heapq.heappush(self._waiting, (begin, self._count, work, share))

    def take(self) -> tuple[T, Share]:
        """Return the work that comes next, and whose it is; there must be some."""
        with self._lock:
            self._now, _, work, share = heapq.heappop(self._waiting)
            return work, share

    def charge(self, share: Share, seconds: float) -> None:
        """Count what the last work of a session took."""
        with self._lock:
            share.end = max(share.end, self._now) + seconds
