"""What a storm of hostile edges counts and finds, and the fewest messages that show it again.

It knows statuses, and nothing of what was sent.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

from sft_common.rpc.options import SERVICE

STREAM_SECONDS = 60.0
"""A stream that has said all takes no longer to end."""

DEFECTS = ("InternalError", "INTERNAL", "UNKNOWN")
"""What no message may lead to."""


class Refusal(NamedTuple):
    """How a stream was refused."""

    name: str
    """Of the error's class, or of the status of a stranger."""

    words: str


@dataclass(slots=True)
class Finding:
    """Something that must not be."""

    what: str

    messages: list[bytes]
    """Of the session, from its opening on, or of the stream."""


@dataclass
class Tally:
    """What was sent and what came of it."""

    limit: int
    """Of the wrong ones."""

    messages: int = 0
    wrong: int = 0
    """Malformed, or out of order."""

    inside: int = 0
    """Of those, inside a session."""

    answers: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    """By what they were and how they ended."""

    refusals: Counter[str] = field(default_factory=Counter)
    """By their words, without names and numbers."""

    findings: list[Finding] = field(default_factory=list)
    until: float = float("inf")

    @property
    def enough(self) -> bool:
        """Whether the storm is over."""
        return self.wrong >= self.limit or time.monotonic() > self.until

    def ended(self, refusal: Refusal | None, place: str) -> None:
        """Count how a stream ended."""
        name = refusal.name if refusal else "no error"
        self.streams[f"{place}: {name}"] += 1
        if refusal:
            words = re.sub(r"'.*'|\".*\"|\{.*\}", "#", refusal.words)
            words = re.sub(r"\b[0-9a-f]{16}\b|[\d.,+-]*\d|\b(nan|inf)\b", "#", words)
            self.refusals[f"{name}: {words[:80]}"] += 1


def refusal_in(error: grpc.RpcError) -> Refusal:
    """Return what a status says; sft_common reads only those of calls without asyncio."""
    assert isinstance(error, grpc.aio.AioRpcError)
    words = error.details() or ""
    if words == "Internal error from Core":  # a message was under way when the stream ended
        return Refusal("ended while something was sent", "")
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                return Refusal(info.reason, words)
    return Refusal(error.code().name, words)


def reproduced(address: str, messages: Sequence[bytes]) -> bool:
    """Return whether messages, as one new stream, make a cloud fail."""
    with grpc.insecure_channel(address) as channel:
        train: Any = channel.stream_stream(f"/{SERVICE}/Train")
        try:
            list(train(iter(messages), timeout=STREAM_SECONDS))
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            return "the cloud failed" in (error.details() or "")
        return False


def shortest(address: str, messages: Sequence[bytes]) -> list[bytes]:
    """Return what is left of messages that make a cloud fail when none can be spared."""
    left = list(messages)
    for at in reversed(range(len(messages))):
        fewer = [*left[:at], *left[at + 1 :]]
        if reproduced(address, fewer):
            left = fewer
    return left
