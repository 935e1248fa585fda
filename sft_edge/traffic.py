"""Counts bytes on the connection and seconds of waiting. It knows message sizes, not messages."""

from __future__ import annotations

from dataclasses import dataclass

_GRPC_PREFIX_BYTES = 5
_FRAME_HEADER_BYTES = 9
_FRAME_BYTES = 16_384


@dataclass(slots=True)
class Traffic:
    """What one session has moved so far."""

    bytes_up: int = 0
    """Bytes edge -> cloud, framing included."""

    bytes_down: int = 0
    """Bytes cloud -> edge, framing included."""

    wait_seconds: float = 0.0
    """Time in which the edge did nothing but wait for a reply."""

    cloud_seconds: float = 0.0
    """The part of it that the cloud says it needed itself."""


def framed_bytes(message_bytes: int) -> int:
    """Return the bytes that one gRPC message takes on an HTTP/2 connection.

    A message has a prefix of 5 bytes; every started 16 KiB of both have a frame header of 9.
    """
    framed = message_bytes + _GRPC_PREFIX_BYTES
    return framed + _FRAME_HEADER_BYTES * -(-framed // _FRAME_BYTES)
