"""What a cloud says of itself without a session: what both sides mean by it <-> its message."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass

from sft_common.errors import ProtocolError, printable
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.options import PROBE_BYTES

MAX_CHARACTERS = 200
"""Of a peer's words that are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Greeting:
    """Who a cloud is, and how it is now (protos: GreetResponse)."""

    protocol_version: int
    software_version: str
    clock_seconds: float
    """Since 1970, UTC."""

    device: str
    """Where net2 runs, for people."""

    max_message_bytes: int
    snapshots: bool
    """Whether a session outlives the cloud's process."""

    free_memory_bytes: int
    """Of the device, not reserved by a session in memory."""

    free_places: int
    """Sessions that may still come into memory."""

    draining: bool
    """Whether it is stopping."""


def greeting_to_proto(greeting: Greeting, payload_bytes: int = 0) -> pb.GreetResponse:
    """Return a greeting as a message, with so many bytes that mean nothing."""
    return pb.GreetResponse(
        protocol_version=greeting.protocol_version,
        software_version=greeting.software_version,
        clock_seconds=greeting.clock_seconds,
        device=greeting.device,
        max_message_bytes=greeting.max_message_bytes,
        snapshots=greeting.snapshots,
        free_memory_bytes=greeting.free_memory_bytes,
        free_places=greeting.free_places,
        draining=greeting.draining,
        payload=noise(payload_bytes),
    )


def greeting_from_proto(message: pb.GreetResponse) -> Greeting:
    """Return what a cloud says of itself; its words are cut short, and move no cursor.

    Raises:
        ProtocolError: its clock is no number.
    """
    if not math.isfinite(message.clock_seconds):
        raise ProtocolError(f"the cloud's clock shows {message.clock_seconds}, which is no time")
    return Greeting(
        protocol_version=message.protocol_version,
        software_version=printable(message.software_version[:MAX_CHARACTERS]),
        clock_seconds=message.clock_seconds,
        device=printable(message.device[:MAX_CHARACTERS]),
        max_message_bytes=message.max_message_bytes,
        snapshots=message.snapshots,
        free_memory_bytes=message.free_memory_bytes,
        free_places=message.free_places,
        draining=message.draining,
    )


def noise(size: int) -> bytes:
    """Return so many random bytes, at most `PROBE_BYTES`, which no link makes fewer."""
    assert 0 <= size <= PROBE_BYTES
    return _noise()[:size]


@functools.cache
def _noise() -> bytes:
    return os.urandom(PROBE_BYTES)
