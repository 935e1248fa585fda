"""What a cloud counts while it works: plain numbers, two microseconds a step in all.

They are counted whether or not anybody looks; exposition.py shows them to Prometheus, admin.py to
`sft-cloud status`. It knows no transport, and keeps nothing that a peer could make grow.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

BOUNDS = (5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper ends of the classes of durations, in seconds; what is longer has a class of its own."""

PHASES = ("queue", "compute", "codec")
"""Where the cloud's time of a micro-batch goes: waiting, the device's work, reading and writing."""

LATEST = 20
"""Steps over which the rate of a session is taken."""

SILENT_SECONDS = 10.0
"""After so long without a step, or thrice its usual pause, a session has no rate any more."""


class CloudTime(Protocol):
    """Where the time of a request went, in seconds (protos: CloudTime)."""

    total: float
    queue: float
    compute: float


class Durations:
    """How many durations were how long; one thread adds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Traffic:
    """Bytes that came and went, as messages: without what HTTP/2, TLS and TCP add."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = self.sent = 0

    def add(self, other: Traffic) -> None:
        """Add what another has counted."""
        self.received += other.received
        self.sent += other.sent


class Metrics:
    """What one cloud has done since it was started; all of it is counted on the event loop."""

    def __init__(self) -> None:
        self.started = time.time()
        self.traffic = Traffic()
        self.opened = self.closed = self.deleted = 0
        self.steps = self.micro_batches = self.repeated = self.evaluations = 0
        self.phases = {phase: Durations() for phase in PHASES}
        self.snapshot_seconds = Durations()
        self.snapshots: Counter[str] = Counter()
        self.resumes: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()

    def answered(self, spent: CloudTime, kind: str = "step", *, repeated: bool = False) -> None:
        """Count an exchange of a step that was answered.

        Args:
            spent: where its time went.
            kind: of the request; a pass forward is no micro-batch yet.
            repeated: whether it was computed before, and is only answered again.
        """
        if repeated:
            self.repeated += 1
            return
        self.micro_batches += kind != "forward"
        total, queue, compute = spent.total, spent.queue, spent.compute
        phases = self.phases
        phases["queue"].add(queue)
        phases["compute"].add(compute)
        phases["codec"].add(max(0.0, total - queue - compute))

    def failed(self, code: str, error: str) -> None:
        """Count a call that ended with an error: its gRPC status and its class."""
        self.errors[code, error] += 1

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Count the block as the writing of a snapshot."""
        begin = time.perf_counter()
        try:
            yield
        except Exception:
            self.snapshots["failed"] += 1
            raise
        self.snapshots["written"] += 1
        self.snapshot_seconds.add(time.perf_counter() - begin)


class Meter:
    """What one stream moves: counted for the cloud, and for the session once it is known.

    Args:
        metrics: of the cloud.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._so_far = Traffic()
        self._counted: tuple[Traffic, ...] = metrics.traffic, self._so_far

    def received(self, size: int) -> None:
        """Count a message that came."""
        for traffic in self._counted:
            traffic.received += size

    def sent(self, size: int) -> None:
        """Count a message that leaves."""
        for traffic in self._counted:
            traffic.sent += size

    def belongs_to(self, *owners: Traffic) -> None:
        """Count for a session and its federation from now on, and what has been counted so far."""
        for owner in owners:
            owner.add(self._so_far)
        self._counted = *self._counted, *owners


class Figures:
    """What is counted of one session while it is in memory."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._ends: deque[float] = deque(maxlen=LATEST)

    def stepped(self, now: float) -> None:
        """Note that a step was applied, by `time.monotonic`."""
        self._ends.append(now)

    def steps_per_second(self, now: float) -> float:
        """Return how fast the latest steps went; 0 if none comes any more."""
        if len(self._ends) < 2:
            return 0.0
        pause = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        if pause <= 0 or now - self._ends[-1] > max(SILENT_SECONDS, 3 * pause):
            return 0.0
        return 1 / pause
