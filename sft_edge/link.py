"""Measures the link to a cloud: its round trip, and the rate of a message each way.

It knows no session and no step. What it finds holds for messages that follow one another: after a
pause the operating system may begin slowly again (docs/operations.md).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from sft_common.rpc.access import Access
from sft_common.rpc.options import PROBE_BYTES
from sft_edge.channel import connect
from sft_edge.greeting import greet

SIZES = (2**14, 2**16, 2**18, PROBE_BYTES)
"""Bytes of the messages, in turn: the first open the windows of TCP and HTTP/2 for the last."""

WARM = 3
"""Messages of the last size that are sent before those that count."""

COUNTED = 5
"""Messages of a size that count; the median of their times is taken."""

ROUND_TRIPS = 11
"""Empty messages, the median of whose times is the round trip."""

LONG_SECONDS = 0.4
"""A message that takes so long is large enough: what is left of a round trip in it is little."""

BUDGET_SECONDS = 4.0
"""No message but the first is begun after so long, in each direction."""

LEAST_SHARE = 0.1
"""What is counted takes at least this share of a message's time; below, noise is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What lies between an edge and a cloud, both programs' handling of messages included."""

    round_trip_seconds: float
    """From an empty message to its answer."""

    up_bytes_per_second: float
    """Edge to cloud: bytes of a message more, over the seconds that they take more."""

    down_bytes_per_second: float
    """Cloud to edge, as above."""

    probe_bytes: tuple[int, int] = (PROBE_BYTES, PROBE_BYTES)
    """Size of the messages up and down that it was measured with; on a slow link they are small."""

    def seconds(self, up_bytes: int, down_bytes: int) -> float:
        """Return how long a request of so many bytes and its answer are on the way."""
        up, down = up_bytes / self.up_bytes_per_second, down_bytes / self.down_bytes_per_second
        return self.round_trip_seconds + up + down


def measure_link(access: Access) -> Link:
    """Return what a new connection to a cloud measures; takes a second, on slow links 12.

    Args:
        access: to the cloud. No message is waited for longer than its `connect_seconds`.

    Raises:
        SftError: the cloud is not reached, does not know who asks, or does not answer in time.
    """
    channel = connect(access)
    try:
        return measure_over(channel, access.connect_seconds)
    finally:
        channel.close()


def measure_over(channel: grpc.Channel, seconds: float) -> Link:
    """Measure over a connection that is there; arguments and errors as of `greet`."""

    def up(size: int) -> None:
        greet(channel, seconds, payload_bytes=size)

    def down(size: int) -> None:
        greet(channel, seconds, answer_bytes=size)

    up(0)  # the first call of a channel takes longer
    round_trip = statistics.median(_seconds_of(up, 0) for _ in range(ROUND_TRIPS))
    up_size, up_rate = _rate(up, round_trip)
    down_size, down_rate = _rate(down, round_trip)
    return Link(
        round_trip_seconds=round_trip,
        up_bytes_per_second=up_rate,
        down_bytes_per_second=down_rate,
        probe_bytes=(up_size, down_size),
    )


def _rate(send: Callable[[int], None], round_trip: float) -> tuple[int, float]:
    """Return the size of the messages that counted, and the rate in bytes per second.

    HTTP/2 lets 64 KiB of a new call through before it waits for the receiver, which a session's
    long stream does not do each time. Messages of the two largest sizes both wait so: the rate is
    taken between them. A link too slow for these does not notice, and its round trip is taken off.
    """
    end = time.monotonic() + BUDGET_SECONDS
    size, first = _large_enough(send, round_trip, end)
    times = [first, *_times(send, size, WARM + COUNTED - 1, end)]
    taken = statistics.median(times[-COUNTED:])
    counted, seconds = size, taken - round_trip
    if size == SIZES[-1] and (smaller := _times(send, SIZES[-2], COUNTED, end)):
        counted, seconds = size - SIZES[-2], taken - statistics.median(smaller)
    return size, counted / max(seconds, LEAST_SHARE * taken)


def _times(send: Callable[[int], None], size: int, count: int, end: float) -> list[float]:
    """Return the seconds of so many messages, or of fewer if it is late."""
    times: list[float] = []
    while len(times) < count and time.monotonic() < end:
        times.append(_seconds_of(send, size))
    return times


def _large_enough(send: Callable[[int], None], round_trip: float, end: float) -> tuple[int, float]:
    """Send messages of growing size; returns the last size and its seconds."""
    for size in SIZES:
        taken = _seconds_of(send, size)
        if taken - round_trip > LONG_SECONDS or time.monotonic() > end:
            break
    return size, taken


def _seconds_of(send: Callable[[int], None], size: int) -> float:
    begin = time.perf_counter()
    send(size)
    return time.perf_counter() - begin
