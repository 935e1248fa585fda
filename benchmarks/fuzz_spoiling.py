"""Messages in bad hands: any field at the ends of its type, bytes flipped, cut and put in.

It knows the types of fields, and nothing of what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

WHOLE_NUMBERS = tuple(
    sign * 2**power + near
    for sign in (1, -1)
    for power in (0, 1, 6, 7, 8, 15, 16, 31, 32, 40, 62, 63, 64)
    for near in (-1, 0, 1)
)

REAL_NUMBERS = (
    *(math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1e-45, 1e-38, -1.0, 0.5, 1.0, 1.0 + 1e-9),
    *(2.0, 1e6, 3.5e38, -3.5e38, 1e308, -1e308),
)

TEXTS = (
    *("", ".", "..", "../../etc", "/etc/passwd", "/proc/self", "a\0b", "\n2026 ERROR forged"),
    *("0" * 16, "f" * 16, "F" * 16, "\uff41" * 16, "\u202e\u0000", "%s%n{}", "x" * 5000, "sft"),
    *("\x1b[2J", "sft\n", "0123456789abcdef\n", "regression", "causal-lm", "none", "stream"),
)

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}

MANY, RARELY = 1000, 0.01


class Spoiler:
    """Spoils messages.

    Args:
        draw: of everything random.
        names: what a text may be beside `TEXTS`.
    """

    def __init__(self, draw: Random, names: Callable[[], list[str]]) -> None:
        self._draw, self._names = draw, names

    def spoiled(self, message: Message, other: Callable[[], bytes]) -> bytes:
        """Return a message with something wrong about it, or nothing, by chance.

        Args:
            message: stays as it is.
            other: writes another, to put behind it.
        """
        chance = self._draw.random()
        if chance < 0.65:
            changed = type(message)()
            changed.CopyFrom(message)
            for _ in range(self._draw.choice([1, 1, 1, 2, 3])):
                self._spoil_field(changed)
            return changed.SerializeToString()
        raw = bytearray(message.SerializeToString() or b"\0")
        at = self._draw.randrange(len(raw) + 1)
        if chance < 0.80:
            for _ in range(self._draw.randint(1, 4)):
                raw[self._draw.randrange(len(raw))] ^= 1 << self._draw.randrange(8)
        elif chance < 0.86:
            del raw[at:]
        elif chance < 0.92:
            raw[at:at] = self._draw.randbytes(self._draw.randint(1, 40))
        elif chance < 0.96:
            raw += other()
        else:
            raw = bytearray(self._draw.randbytes(self._draw.randint(0, 300)))
        return bytes(raw)

    def _spoil_field(self, message: Message) -> None:
        """Change one field somewhere in a message, be it set or not."""
        places = list(_fields(message))
        target, field = self._draw.choice(places)
        if field.is_repeated:
            self._spoil_repeated(getattr(target, field.name), field)
        elif field.message_type is not None:
            if self._draw.random() < 0.5:
                target.ClearField(field.name)
            else:
                getattr(target, field.name).SetInParent()
        else:
            setattr(target, field.name, self._value(field, getattr(target, field.name)))

    def _spoil_repeated(self, values: Any, field: FieldDescriptor) -> None:
        chance = self._draw.random()
        if field.message_type is not None:
            self._spoil_messages(values, chance)
        elif values and chance < 0.3:
            values[self._draw.randrange(len(values))] = self._value(field, 0)
        elif values and chance < 0.5:
            del values[self._draw.randrange(len(values)) :]
        elif chance < 0.8:
            values.append(self._value(field, 0))
        else:
            count = 300 * MANY if self._draw.random() < 20 * RARELY else MANY
            values.extend([self._value(field, 0)] * count)

    def _spoil_messages(self, values: Any, chance: float) -> None:
        if values and chance < 0.4:
            self._spoil_field(self._draw.choice(values))
        elif values and chance < 0.6:
            del values[self._draw.randrange(len(values)) :]
        else:
            for _ in range(1 if chance < 0.9 else MANY):
                values.add()
            self._spoil_field(values[-1])

    def _value(self, field: FieldDescriptor, before: Any) -> Any:
        """Return a value at some end of what the field's type can say."""
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self._draw.choice(REAL_NUMBERS)
            case FieldDescriptor.CPPTYPE_BOOL:
                return not before
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return self._bytes(before or b"")
            case FieldDescriptor.CPPTYPE_STRING:
                return self._draw.choice([*TEXTS, *self._names()])
            case kind:
                return self.whole(*_RANGES[kind])

    def whole(self, low: int, high: int) -> int:
        """Return a whole number, mostly one at an end of what some type can say."""
        fitting = [number for number in WHOLE_NUMBERS if low <= number <= high]
        return self._draw.choice(
            [*fitting, self._draw.randint(low, high), self._draw.randint(0, 9)]
        )

    def _bytes(self, before: bytes) -> bytes:
        chance, at = self._draw.random(), self._draw.randrange(len(before) + 1)
        if chance < 0.3:
            return before[:at]
        if chance < 0.5:
            return before + self._draw.randbytes(self._draw.randint(1, 64))
        if chance < 0.7:
            return before[:at] + b"\xff\x7f\xc0\x7f"[: len(before) - at] + before[at + 4 :]
        if chance < 0.98:
            return self._draw.randbytes(len(before))
        return bytes(3 * 2**20)


def _fields(message: Message) -> list[tuple[Message, Any]]:
    """Return all fields of a message and of what is set in it, with where they are."""
    found = []
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof is not None and message.HasField(field.name)
        nested = field.message_type is not None and not field.is_repeated
        if nested and message.HasField(field.name):
            found += _fields(getattr(message, field.name))
        if not (nested and oneof):
            found.append((message, field))
    return found
