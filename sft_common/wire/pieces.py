"""Large tensors in pieces: each copied once, into memory that waits for it, while the next travels.

A message of many megabytes would be copied whole by every hand that it goes through, each waiting
for the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic

import numpy as np

from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.framing import PIECE, M, Numbers, read, tensor_of, written

PIECE_BYTES = 2**20
"""Numbers up to here travel in the message itself. With half of it a step of 6.5 MB over loopback
takes 1.1 to 1.2 times as long, with a quarter twice as long."""

WAY_OUT = (
    "choose a smaller --batch-size, --max-length or --rank, or raise --max-message on both sides"
)
"""What to do about a message that is too large."""


def pieces(message: M, numbers: Numbers = b"") -> Iterator[bytes]:
    """Yield a message as it travels.

    Args:
        message: of the kinds in `SLOTS` if there are numbers; its tensor lacks them.
        numbers: the data of its tensor.
    """
    if len(numbers) <= PIECE_BYTES:
        yield written(message, numbers)
        return
    tensor_of(message).following = len(numbers)
    yield written(message)
    piece = type(message)(piece=pb.Piece())
    for start in range(0, len(numbers), PIECE_BYTES):
        yield written(piece, numbers[start : start + PIECE_BYTES])


class Joiner(Generic[M]):
    """Puts the pieces of one stream together.

    Args:
        kind: what the stream consists of.
        limit_bytes: of the numbers of one tensor.
    """

    def __init__(self, kind: type[M], limit_bytes: int) -> None:
        self._kind: type[M] = kind
        self._limit = limit_bytes
        self._waiting: M | None = None
        self._numbers, self._filled = memoryview(b""), 0

    def add(self, raw: bytes) -> tuple[M, Numbers] | None:
        """Take what came; returns a message once it is whole, and the numbers of its tensor.

        Numbers that came in pieces lie in memory that nobody else uses.

        Raises:
            ProtocolError: it is no such message, or a piece that nobody waits for, or none where
                one must come.
            LimitError: the tensor is larger than the limit.
        """
        message, numbers = read(raw, self._kind)
        if self._waiting is not None:
            return self._fill(message, numbers)
        if message.HasField(PIECE):
            raise ProtocolError("a piece came without a tensor that it belongs to")
        following = tensor_of(message).following
        if not following:
            return message, numbers
        self._begin(message, numbers, following)
        return None

    def _begin(self, message: M, numbers: Numbers, following: int) -> None:
        if numbers:
            raise ProtocolError(f"a tensor has {len(numbers)} bytes, and {following} follow")
        if following > self._limit:
            raise LimitError(
                f"a tensor of {following:,} bytes is over the limit of {self._limit:,}; {WAY_OUT}"
            )
        self._waiting = message
        # Not zeroed: a peer that promises much and sends little takes no memory.
        self._numbers, self._filled = np.empty(following, np.uint8).data, 0

    def _fill(self, message: M, numbers: Numbers) -> tuple[M, Numbers] | None:
        assert self._waiting is not None
        left = len(self._numbers) - self._filled
        if not message.HasField(PIECE) or not 0 < len(numbers) <= left:
            raise ProtocolError(
                f"a piece of 1 to {left} bytes was expected, "
                f"{message.WhichOneof(message.DESCRIPTOR.oneofs[0].name)} of {len(numbers)} came"
            )
        end = self._filled + len(numbers)
        self._numbers[self._filled : end] = numbers
        self._filled = end
        if self._filled < len(self._numbers):
            return None
        whole, self._waiting = self._waiting, None
        tensor_of(whole).following = 0
        joined, self._numbers = self._numbers, memoryview(b"")
        return whole, joined
