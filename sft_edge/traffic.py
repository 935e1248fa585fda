"""Counts bytes on the connection and seconds of waiting. It knows message sizes, not messages.

A reply is waited for only while the edge has nothing else to do, which is less than the time from
request to reply when several are under way. Of the wait, what came last counts first: the way down
(half of what the cloud did not need), then the cloud, then the way up.

gRPC does not say what it writes to its socket, so it is computed: messages with their framing are
exact; connection set-up and flow control are means measured with a relay (docs/protocol.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

_GRPC_PREFIX_BYTES = 5
_FRAME_HEADER_BYTES = 9
_FRAME_BYTES = 16_384

_SETUP_BYTES_UP = 600
"""Preface, SETTINGS, HEADERS, PINGs and RST_STREAM of one connection."""

_SETUP_BYTES_DOWN = 400

_FLOW_BYTES_UP = 22
"""WINDOW_UPDATEs (13 bytes each) that go up for each message that came down."""

_FLOW_BYTES_DOWN = 14


class CloudTime(NamedTuple):
    """Where the seconds of a request on the cloud went."""

    total: float
    """From its arrival to its answer."""

    queue: float
    """Of them, waiting for the device."""

    compute: float
    """Of them, at work on the device; the rest is reading and writing."""


@dataclass(slots=True)
class Traffic:
    """What one session has moved so far."""

    bytes_up: int = 0
    """Bytes edge -> cloud, framing included."""

    bytes_down: int = 0
    """Bytes cloud -> edge, framing included."""

    cloud_seconds: float = 0.0
    """Time in which the edge did nothing but wait for the cloud's work."""

    wire_seconds: float = 0.0
    """Time in which it did nothing but wait for messages on their way."""

    encode_seconds: float = 0.0
    """Time that the edge needed to write tensors as messages."""

    decode_seconds: float = 0.0
    """Time that it needed to read messages as tensors."""

    way_seconds: float = 0.0
    """Time that requests and replies were on the way, waited for or not; of several, all."""

    queue_seconds: float = 0.0
    """Time that requests waited for the cloud's device."""

    compute_seconds: float = 0.0
    """Time that the cloud's device worked on them."""

    cloud_codec_seconds: float = 0.0
    """Time that the cloud needed to read and write them."""

    def waited(self, seconds: float, *, exchange: float, cloud: CloudTime) -> None:
        """Count an exchange and the wait for its reply.

        Args:
            seconds: of waiting.
            exchange: seconds from the request to the reply.
            cloud: what the cloud says of them.
        """
        on_the_way = max(0.0, exchange - cloud.total)
        down = min(seconds, on_the_way / 2)
        there = min(seconds - down, cloud.total)
        self.cloud_seconds += there
        self.wire_seconds += seconds - there
        self.way_seconds += on_the_way
        self.queue_seconds += cloud.queue
        self.compute_seconds += cloud.compute
        self.cloud_codec_seconds += cloud.total - cloud.queue - cloud.compute

    def blocked(self, seconds: float) -> None:
        """Count a wait for a link that has too much to send already."""
        self.wire_seconds += seconds

    def connected(self) -> None:
        """Count a connection that was made."""
        self.bytes_up += _SETUP_BYTES_UP
        self.bytes_down += _SETUP_BYTES_DOWN

    def sent(self, message_bytes: int) -> None:
        """Count a message that went up."""
        self.bytes_up += framed_bytes(message_bytes)
        self.bytes_down += _FLOW_BYTES_DOWN

    def received(self, message_bytes: int) -> None:
        """Count a message that came down."""
        self.bytes_down += framed_bytes(message_bytes)
        self.bytes_up += _FLOW_BYTES_UP


def framed_bytes(message_bytes: int) -> int:
    """Return the bytes that one gRPC message takes on an HTTP/2 connection.

    A message has a prefix of 5 bytes; every started 16 KiB of both have a frame header of 9.
    """
    framed = message_bytes + _GRPC_PREFIX_BYTES
    return framed + _FRAME_HEADER_BYTES * -(-framed // _FRAME_BYTES)
