"""What was sent and not yet answered: to be sent once more when a connection breaks.

It knows messages and the order of answers, no connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position
from sft_common.wire.framing import Numbers

UNANSWERED = ("apply", "keep", "store", "weights", "factor", "drop")
"""Kinds of requests that get no reply."""


BEGINNING = Position()


class Sent(NamedTuple):
    """A request that may have to be sent again."""

    request: pb.TrainRequest
    numbers: Numbers
    """Of its tensor; not copied."""

    position: Position
    """Of the session behind it."""


class Journal:
    """The requests of a session since the last that was answered.

    Args:
        position: where the session stands.
    """

    def __init__(self, position: Position = BEGINNING) -> None:
        self.confirmed = position
        self._waiting: deque[Sent] = deque()

    @property
    def sent(self) -> Position:
        """The position behind the last request."""
        return self._waiting[-1].position if self._waiting else self.confirmed

    def add(self, request: pb.TrainRequest, numbers: Numbers = b"") -> None:
        """Note a request that is about to be sent."""
        position = self.sent
        match request.WhichOneof("request"):
            case "step" | "forward" | "backward" as kind:
                position = position._replace(exchanges=getattr(request, kind).exchange + 1)
            case "apply":
                position = Position(request.apply.step)
        self._waiting.append(Sent(request, numbers, position))

    def answered(self) -> None:
        """Note the next answer: the request that it is for has come, and all before it."""
        while self._waiting:
            sent = self._waiting.popleft()
            self.confirmed = sent.position
            if sent.request.WhichOneof("request") not in UNANSWERED:
                return

    def __iter__(self) -> Iterator[Sent]:
        """Iterate over what is to be sent again, in order."""
        return iter(list(self._waiting))
