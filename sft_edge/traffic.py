"""Counts bytes on the connection and seconds of waiting. It knows message sizes, not messages.

gRPC does not say what it writes to its socket, so it is computed: messages with their framing are
exact; connection set-up and flow control are means measured with a relay (docs/protocol.md).
"""

from __future__ import annotations

from dataclasses import dataclass

_GRPC_PREFIX_BYTES = 5
_FRAME_HEADER_BYTES = 9
_FRAME_BYTES = 16_384

_SETUP_BYTES_UP = 700
"""Preface, SETTINGS, HEADERS, PINGs and RST_STREAM of one connection."""

_SETUP_BYTES_DOWN = 500

_FLOW_BYTES_UP = 45
"""WINDOW_UPDATEs (13 bytes each) that go up for each message that came down."""

_FLOW_BYTES_DOWN = 18


@dataclass(slots=True)
class Traffic:
    """What one session has moved so far."""

    bytes_up: int = _SETUP_BYTES_UP
    """Bytes edge -> cloud, framing included."""

    bytes_down: int = _SETUP_BYTES_DOWN
    """Bytes cloud -> edge, framing included."""

    wait_seconds: float = 0.0
    """Time in which the edge did nothing but wait for the reply to a step or an evaluation."""

    cloud_seconds: float = 0.0
    """The part of it that the cloud says it needed itself."""

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
