"""Tensor <-> pb.Tensor: type, shape and size are checked before a byte is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from sft_common.config import ENCODINGS
from sft_common.errors import ConfigError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.encodings import ENCODING_TABLE
from sft_common.wire.framing import Numbers

_ELEMENT_TYPES = {
    "float32": pb.ELEMENT_TYPE_FLOAT32,
    "float16": pb.ELEMENT_TYPE_FLOAT16,
    "bfloat16": pb.ELEMENT_TYPE_BFLOAT16,
    "int8": pb.ELEMENT_TYPE_INT8,
    "int4": pb.ELEMENT_TYPE_INT4,
}


Move = Callable[[Tensor], Tensor]
"""Takes a tensor of bytes to another device."""


def tensor_to_proto(
    tensor: Tensor, encoding: str = "float32", generator: Generator | None = None
) -> pb.Tensor:
    """Return a message with the numbers of a float32 tensor; arguments as below."""
    message, numbers = tensor_to_parts(tensor, encoding, generator)
    message.data = bytes(numbers)
    return message


def tensor_to_parts(
    tensor: Tensor,
    encoding: str = "float32",
    generator: Generator | None = None,
    *,
    fetch: Move = Tensor.cpu,
) -> tuple[pb.Tensor, memoryview]:
    """Return a message that lacks the numbers of a float32 tensor, and the numbers.

    Args:
        tensor: of any shape and device; of two dimensions for the scaled encodings.
        encoding: how to write them, one of `ENCODINGS`.
        generator: rounds stochastically; on the device of the tensor.
        fetch: brings bytes from that device.
    """
    assert tensor.dtype == torch.float32
    width = tensor.shape[-1] if tensor.ndim else 1
    rows_TW = tensor.detach().reshape(math.prod(tensor.shape[:-1]), width)
    rows_TK = ENCODING_TABLE[encoding].encode(rows_TW, generator)
    message = pb.Tensor(shape=tensor.shape, element_type=encoding_to_proto(encoding))
    return message, fetch(rows_TK).flatten().numpy().data


def tensor_from_proto(
    message: pb.Tensor, expected: Sequence[int], what: str, encoding: str = "float32"
) -> Tensor:
    """Return the tensor of a message that holds its numbers; arguments and errors as below."""
    return tensor_from_parts(message, message.data, expected, what, encoding)


def tensor_from_parts(
    message: pb.Tensor,
    numbers: Numbers,
    expected: Sequence[int],
    what: str,
    encoding: str = "float32",
    *,
    place: Move = lambda rows: rows,
) -> Tensor:
    """Return a tensor that came in parts, as float32; it owns its memory.

    Args:
        message: as it came from the peer, without the numbers.
        numbers: the numbers; memory that can be written is taken over.
        expected: the shape that it must have.
        what: its name in error messages.
        encoding: how it must be written.
        place: takes bytes to the device where they are read.

    Raises:
        ProtocolError: another element type, shape or number of bytes than expected.
    """
    check_parts(message, numbers, expected, what, encoding)
    own = isinstance(numbers, memoryview) and not numbers.readonly
    return numbers_of(numbers if own else bytearray(numbers), expected, encoding, place=place)


def check_parts(
    message: pb.Tensor, numbers: Numbers, expected: Sequence[int], what: str, encoding: str
) -> None:
    """Refuse a tensor that is not as expected; arguments and errors as above."""
    if message.element_type != encoding_to_proto(encoding):
        raise ProtocolError(
            f"{what} has element type {message.element_type}; "
            f"{encoding} ({encoding_to_proto(encoding)}) was agreed on"
        )
    shape = tuple(message.shape[: len(expected) + 1])  # of millions, one too many is enough
    if shape != tuple(expected):
        raise ProtocolError(f"{what} has shape {shape}, expected {tuple(expected)}")
    width = expected[-1] if expected else 1
    size = math.prod(expected[:-1]) * ENCODING_TABLE[encoding].row_bytes(width)
    if len(numbers) != size:
        raise ProtocolError(
            f"{what} of shape {tuple(expected)} has {len(numbers)} bytes, expected {size}"
        )


def is_finite(numbers: Tensor) -> bool:
    """Return whether a tensor holds neither NaN nor infinity.

    One sum tells, but where it overflows: it costs a thirtieth of a look at every number.
    """
    return math.isfinite(numbers.sum()) or bool(numbers.isfinite().all())


def check_finite(numbers: Tensor, what: str) -> None:
    """Refuse a tensor that holds NaN or infinity.

    Args:
        numbers: of any shape.
        what: its name in error messages.

    Raises:
        ProtocolError: shows the first such number.
    """
    if not is_finite(numbers):
        at = (~numbers.isfinite()).nonzero()[0].tolist()
        raise ProtocolError(
            f"{what} holds {numbers[tuple(at)].item()} at {tuple(at)}; only finite numbers fit"
        )


def numbers_of(
    rows: bytearray | Numbers,
    shape: Sequence[int],
    encoding: str,
    *,
    place: Move = lambda rows: rows,
) -> Tensor:
    """Return the numbers of rows, float32; may share their memory, which nobody else uses."""
    width = shape[-1] if shape else 1
    chosen = ENCODING_TABLE[encoding]
    rows_K = place(torch.from_numpy(np.frombuffer(rows, np.uint8)))
    rows_TK = rows_K.reshape(math.prod(shape[:-1]), chosen.row_bytes(width))
    return chosen.decode(rows_TK, width).reshape(tuple(shape))


def encoding_to_proto(encoding: str) -> pb.ElementType:
    """Return the number of an encoding in messages."""
    return _ELEMENT_TYPES[encoding]


def encoding_from_proto(element_type: int) -> str:
    """Return the name of an encoding.

    Raises:
        ConfigError: there is none of that number.
    """
    for encoding, number in _ELEMENT_TYPES.items():
        if number == element_type:
            return encoding
    raise ConfigError(f"unknown encoding {element_type}; choose one of: {', '.join(ENCODINGS)}")
