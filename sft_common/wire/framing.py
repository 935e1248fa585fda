"""Messages that carry a large tensor, written with one copy of its numbers and read with none.

Protocol buffers copy a bytes field when it is set, when the message is serialized and when it is
parsed. Here the message is serialized without the numbers, and they are put behind it as a second
occurrence of the same field, which the format merges with the first: whoever parses the whole finds
an ordinary message of the contract. Who knows the form reads the numbers where they lie. pieces.py
sends those of large tensors in messages of their own.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.weighing import LIGHT_BYTES, MOST_BYTES, varint, weight

M = TypeVar("M", pb.TrainRequest, pb.TrainResponse)

Numbers = bytes | memoryview
"""The data of a tensor."""

SLOTS = {
    "step": "activation",
    "forward": "activation",
    "backward": "gradient",
    "evaluate": "activation",
    "store": "activation",
    "weights": "rows",
    "step_result": "gradient",
    "forward_result": "logits",
    "evaluation": "logits",
}
"""Kind of a message -> the field of its large tensor."""

PIECE = "piece"
"""The kind that is nothing but numbers."""

_DATA = pb.Tensor.DESCRIPTOR.fields_by_name["data"].number
assert _DATA == pb.Piece.DESCRIPTOR.fields_by_name["data"].number
_LENGTH_DELIMITED = 2


def written(message: pb.TrainRequest | pb.TrainResponse, numbers: Numbers = b"") -> bytes:
    """Return a message as it travels.

    Args:
        message: a piece, or of the kinds in `SLOTS`, if there are numbers; it lacks them.
        numbers: the data of the piece, or of its tensor.
    """
    head = message.SerializeToString()
    if not numbers:
        return head
    prefixes, size = [numbers], len(numbers)
    for field in reversed((*_numbers_of_fields(message), _DATA)):
        prefixes.append(_prefix(field, size))
        size += len(prefixes[-1])
    return b"".join((head, *reversed(prefixes)))


def read(raw: bytes, kind: type[M]) -> tuple[M, Numbers]:
    """Return a message and the numbers of its tensor or piece, which the message itself may lack.

    Args:
        raw: as it came from the peer.
        kind: what it must be.

    Raises:
        ProtocolError: it is no such message.
        LimitError: too much of it is not numbers.
    """
    message = kind()
    try:
        if len(raw) > LIGHT_BYTES:
            _check_weight(raw, message)
        at = _end_of_first_field(raw)
        message.MergeFromString(raw[:at])
        if (numbers := _only_numbers(raw, at, message)) is not None:
            return message, numbers
        message.MergeFromString(raw[at:])
    except (DecodeError, IndexError) as error:
        raise ProtocolError(f"a message of {len(raw):,} bytes cannot be read: {error}") from error
    return message, (message.piece if _kind(message) == PIECE else tensor_of(message)).data


def tensor_of(message: pb.TrainRequest | pb.TrainResponse) -> pb.Tensor:
    """Return the large tensor of a message; an empty one, of its own, if it has none."""
    name = _kind(message)
    if name not in SLOTS:
        return pb.Tensor()
    tensor: pb.Tensor = getattr(getattr(message, name), SLOTS[name])
    return tensor


def _check_weight(raw: bytes, message: Message) -> None:
    if (found := weight(raw, message.DESCRIPTOR, 0, len(raw))) > MOST_BYTES:
        raise LimitError(
            f"a message of {len(raw):,} bytes has {found:,} or more besides the numbers of its "
            f"tensor, over the limit of {MOST_BYTES:,}; choose a smaller --batch-size"
        )


def _numbers_of_fields(message: pb.TrainRequest | pb.TrainResponse) -> tuple[int, ...]:
    """Return the field numbers of what a message holds, and of the large tensor in that, if any."""
    name = _kind(message)
    field = message.DESCRIPTOR.fields_by_name[name]
    assert field.message_type is not None
    if name == PIECE:
        return (field.number,)
    return field.number, field.message_type.fields_by_name[SLOTS[name]].number


def _kind(message: Message) -> str:
    return str(message.WhichOneof(message.DESCRIPTOR.oneofs[0].name) or "")


def _only_numbers(
    raw: bytes, at: int, message: pb.TrainRequest | pb.TrainResponse
) -> memoryview | None:
    """Return the numbers if all that follows is the form that `written` gives them."""
    kind = _kind(message)
    if at == len(raw) or kind not in (*SLOTS, PIECE):
        return None
    if (message.piece if kind == PIECE else tensor_of(message)).data:
        return None
    for number in (*_numbers_of_fields(message), _DATA):
        expected = number << 3 | _LENGTH_DELIMITED
        tag, at = varint(raw, at)
        length, at = varint(raw, at)
        if tag != expected or at + length != len(raw):
            return None
    return memoryview(raw)[at:]


def _end_of_first_field(raw: bytes) -> int:
    """Return where the first field ends if it has a length, else the end of everything."""
    if not raw:
        return 0
    tag, at = varint(raw, 0)
    if tag & 7 != _LENGTH_DELIMITED:
        return len(raw)
    length, at = varint(raw, at)
    return min(at + length, len(raw))


def _prefix(number: int, length: int) -> bytes:
    """Return tag and length of a field that has one."""
    out = bytearray([number << 3 | _LENGTH_DELIMITED])
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    out.append(length)
    return bytes(out)
