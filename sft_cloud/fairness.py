"""Who gets the device next: three rules, each a queue. It knows no work, no clock and no edge.

Every piece of work has a place in line, a number, when it comes; the lowest is served first, and
of the same number what came first. The rules differ in that number alone.
"""

from __future__ import annotations

import heapq
import math
import threading
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Share:
    """What a queue knows of one session.

    Args:
        own_seconds: that its edge takes by itself for a step; None: not known yet.
    """

    def __init__(self, own_seconds: float | None = None) -> None:
        self.own_seconds = own_seconds
        self.place = -math.inf
        """Nothing more of it comes before this."""


class Queue(ABC, Generic[T]):
    """Work of many sessions that waits for one device; threads may share it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, T, Share]] = []
        self._now, self._count = 0.0, 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, share: Share, work: T) -> None:
        """Append work of a session; it stays behind what waits of that session."""
        with self._lock:
            self._count += 1
            share.place = max(share.place, self._place(share))
            heapq.heappush(self._waiting, (share.place, self._count, work, share))

    def take(self) -> tuple[T, Share]:
        """Return the work that comes next, and whose it is; there must be some."""
        with self._lock:
            place, _, work, share = heapq.heappop(self._waiting)
            self._begin(place)
            return work, share

    def charge(self, share: Share, seconds: float) -> None:
        """Count what the last work of a session took of the device."""
        with self._lock:
            self._end(share, seconds)

    @abstractmethod
    def _place(self, share: Share) -> float:
        """Return where new work of a session would stand."""

    def _begin(self, place: float) -> None:
        """Notice that work is begun."""

    def _end(self, share: Share, seconds: float) -> None:
        """Notice what work has taken."""


class FairQueue(Queue[T]):
    """Whoever has had the least of the device comes first.

    Start-time fair queueing (Goyal et al. 1996): work gets the time at which its session would
    begin it if the device were shared evenly. A session that was away begins with the others, it
    does not catch up on what it did not ask for.
    """

    def _place(self, share: Share) -> float:
        return self._now

    def _begin(self, place: float) -> None:
        self._now = place

    def _end(self, share: Share, seconds: float) -> None:
        share.place = max(share.place, self._now) + seconds


class FifoQueue(Queue[T]):
    """What came first comes first."""

    def _place(self, share: Share) -> float:
        return 0.0


class LongestFirstQueue(Queue[T]):
    """The edge that takes longest by itself comes first (PipeSFL, Gao et al. 2025), with a bound.

    What work has waited counts like its edge's own time, so the step that is longest under way
    comes first, and nothing that comes later than that by the difference of two edges' own times
    is served before: nobody waits forever. Seconds are the device's, which does not rest while
    anything waits. A session that is not measured yet counts as the longest of those that wait.
    """

    def _place(self, share: Share) -> float:
        own = share.own_seconds
        if own is None:
            own = max((other.own_seconds or 0.0 for *_, other in self._waiting), default=0.0)
        return self._now - own

    def _end(self, share: Share, seconds: float) -> None:
        self._now += seconds


QUEUES: dict[str, type[Queue[Any]]] = {
    "fair": FairQueue,
    "fifo": FifoQueue,
    "longest-first": LongestFirstQueue,
}
"""By what `sft-cloud serve --scheduling` calls them."""
