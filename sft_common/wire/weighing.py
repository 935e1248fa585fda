"""What a message is besides the numbers of its tensors, weighed before it is parsed.

A byte of numbers takes a byte of memory, wherever it lies; a byte of anything else may take eight:
64 MB of lengths would be half a gigabyte before a rule of the protocol could refuse them. It knows
the wire format of protocol buffers, and no rule of the protocol.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

LIGHT_BYTES = 2**21
"""Messages up to here are not weighed: what they may become is little."""

MOST_BYTES = 2**22
"""Of a message besides its numbers: lengths and labels of a million tokens."""

FIELD_BYTES = 64
"""What a field counts for at least, so that millions of empty ones are too many as well."""


def weight(raw: bytes, descriptor: Any, at: int, end: int, limit: int = MOST_BYTES) -> int:
    """Return the weight of a part of a message; counting ends beyond the limit.

    Args:
        raw: the message.
        descriptor: what the part is, as protocol buffers say it.
        at: where it begins.
        end: where it ends.
        limit: more is too much.

    Raises:
        IndexError: a field does not end.
    """
    total = 0
    while at < end and total <= limit:
        tag, at = varint(raw, at)
        total += FIELD_BYTES
        match tag & 7:  # the wire type
            case 0:
                at = varint(raw, at)[1]
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                length, at = varint(raw, at)
                if at + length > end:
                    raise IndexError("a field is longer than what it lies in")
                field = descriptor.fields_by_number.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    total += weight(raw, field.message_type, at, at + length, limit - total)
                elif field is None or field.type != FieldDescriptor.TYPE_BYTES:
                    total += length
                at += length
            case other:
                raise IndexError(f"a field has wire type {other}")
    return total


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends.

    Raises:
        IndexError: it does not end.
    """
    number = shift = 0
    while raw[at] > 127:
        number |= (raw[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise IndexError("a number has more than 64 bits")
    return number | raw[at] << shift, at + 1
