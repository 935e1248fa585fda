"""Rows of numbers <-> rows of bytes, each row by itself. Pure torch; it knows no messages.

A row is what travels of one token. Numbers are rounded to the nearest that the encoding has; with a
generator stochastically: up or down, with the probabilities that make the mean of many roundings
the number itself. The error of a number is then at most its `spacing`, to the nearest half of it;
float32's own rounding adds less than 2**-15 of it.

A row that holds a number that is not finite comes back with numbers that are not.

Legend: T rows, W numbers of a row, K bytes of a row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

TINY = 2.0**-126
"""Numbers below this one may count as 0: not every device computes with them."""

HUGE = 2.0**126
"""With a scale, numbers above this one count as infinite: a scale rounded up could make them so."""


class Encoding(ABC):
    """One way to write rows of float32 numbers."""

    name: str
    """What people and messages call it."""

    @abstractmethod
    def row_bytes(self, width: int) -> int:
        """Return K, the bytes of a row of W numbers."""

    @abstractmethod
    def encode(self, rows_TW: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the rows as bytes, uint8, shape (T, K).

        Args:
            rows_TW: float32, on any device.
            generator: rounds stochastically; on the device of the rows.
        """

    @abstractmethod
    def decode(self, rows_TK: Tensor, width: int) -> Tensor:
        """Return the numbers of rows of bytes, float32, shape (T, W); the memory may be shared."""

    @abstractmethod
    def spacing(self, rows_TW: Tensor) -> Tensor:
        """Return how far apart the numbers lie that the encoding has there, (T, W) or (T, 1)."""


class Floating(Encoding):
    """IEEE or brain floating point; numbers beyond the largest become the largest.

    Args:
        name: of the encoding.
        dtype: of a number.
    """

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.name, self._dtype = name, dtype
        self._facts = torch.finfo(dtype)

    def row_bytes(self, width: int) -> int:
        """Return K = W times the bytes of a number."""
        return width * self._dtype.itemsize

    def encode(self, rows_TW: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the rows as bytes, (T, K)."""
        if self._dtype != torch.float32:
            rows_TW = self._rounded(rows_TW, generator)
        rows_TW = rows_TW.to(self._dtype).contiguous()
        # A row of one number may count as contiguous and still have the stride of the rows.
        rows_TW = rows_TW.as_strided(rows_TW.shape, (rows_TW.shape[1], 1))
        return rows_TW.view(torch.uint8)

    def decode(self, rows_TK: Tensor, width: int) -> Tensor:
        """Return the numbers of rows of bytes, (T, W)."""
        return rows_TK.flatten().view(self._dtype).float().reshape(len(rows_TK), width)

    def spacing(self, rows_TW: Tensor) -> Tensor:
        """Return the distance of neighbouring numbers, (T, W)."""
        if self._dtype == torch.float32:
            return torch.zeros_like(rows_TW)
        eps = round(math.log2(self._facts.eps))
        least = max(round(math.log2(self._facts.smallest_normal)), round(math.log2(TINY)) - eps)
        exponent = torch.frexp(rows_TW).exponent.sub(1).clamp(min=least)
        exponent = exponent.where(rows_TW != 0, least)
        return torch.ldexp(torch.full_like(rows_TW, self._facts.eps), exponent)

    def _rounded(self, rows_TW: Tensor, generator: Generator | None) -> Tensor:
        """Return numbers that the type has, except where they are not finite."""
        near = rows_TW
        if generator is not None:
            spacing_TW = self.spacing(rows_TW)
            near = _rounded(rows_TW / spacing_TW, generator) * spacing_TW
        near = near.clamp(self._facts.min, self._facts.max)
        return near.where(rows_TW.isfinite(), rows_TW)


class Scaled(Encoding):
    """Small whole numbers times a scale of their row, the largest number's share of the range.

    The scale comes first, as bfloat16, rounded up so that no number is beyond the range. Of four
    bits, two numbers share a byte, the first in the lower half; an odd row is filled up with 0.

    Args:
        name: of the encoding.
        bits: of a number, 4 or 8.
    """

    def __init__(self, name: str, bits: int) -> None:
        self.name, self._bits = name, bits
        self._range = 2 ** (bits - 1) - 1

    def row_bytes(self, width: int) -> int:
        """Return K = 2 bytes of scale and the numbers, to a whole byte."""
        return torch.bfloat16.itemsize + -(-width * self._bits // 8)

    def encode(self, rows_TW: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the rows as bytes, (T, K)."""
        scale_T1 = self.spacing(rows_TW)
        whole_TW = _rounded(rows_TW / scale_T1.where(scale_T1 > 0, 1.0), generator)
        code_TW = whole_TW.nan_to_num().clamp(-self._range, self._range).to(torch.int8)
        packed_TK = code_TW.view(torch.uint8) if self._bits == 8 else _paired(code_TW)
        bits_T1 = scale_T1.view(torch.int32)
        scale_T2 = torch.cat([bits_T1 >> 16, bits_T1 >> 24], dim=1).bitwise_and(255).byte()
        return torch.cat([scale_T2, packed_TK], dim=1)

    def decode(self, rows_TK: Tensor, width: int) -> Tensor:
        """Return the numbers of rows of bytes, (T, W)."""
        low_T1, high_T1 = rows_TK[:, 0:1].int(), rows_TK[:, 1:2].int()
        scale_T1: Tensor = (high_T1 << 24 | low_T1 << 16).view(torch.float32)
        packed_TK = rows_TK[:, 2:]
        code_TW = packed_TK.view(torch.int8) if self._bits == 8 else _unpaired(packed_TK, width)
        numbers_TW: Tensor = code_TW.float() * scale_T1
        return numbers_TW

    def spacing(self, rows_TW: Tensor) -> Tensor:
        """Return the scales, (T, 1)."""
        largest_T1 = rows_TW.abs().amax(dim=1, keepdim=True)
        exact_T1 = (largest_T1 / self._range).clamp(min=TINY).where(largest_T1 > 0, largest_T1)
        # The bits of a bfloat16 are the upper half of a float32's: round that up.
        upper_T1 = (exact_T1.view(torch.int32) + 0xFFFF) & ~0xFFFF
        scale_T1: Tensor = upper_T1.view(torch.float32).where(largest_T1 <= HUGE, math.nan)
        return scale_T1


ENCODING_TABLE: dict[str, Encoding] = {
    encoding.name: encoding
    for encoding in (
        Floating("float32", torch.float32),
        Floating("float16", torch.float16),
        Floating("bfloat16", torch.bfloat16),
        Scaled("int8", 8),
        Scaled("int4", 4),
    )
}
"""All encodings by name, those of sft_common/config.py."""


def _rounded(numbers: Tensor, generator: Generator | None) -> Tensor:
    """Return whole numbers: the nearest, or one of both neighbours with their probabilities."""
    if generator is None:
        return numbers.round()
    below = numbers.floor()
    chance = torch.rand(numbers.shape, generator=generator, device=numbers.device)
    return below + (chance < numbers - below)


def _paired(code_TW: Tensor) -> Tensor:
    """Put two numbers of four bits into a byte: (T, W) -> (T, ceil(W / 2))."""
    even_TW = torch.nn.functional.pad(code_TW, (0, code_TW.shape[1] % 2)).view(torch.uint8) & 15
    return even_TW[:, 0::2] | (even_TW[:, 1::2] << 4)


def _unpaired(packed_TK: Tensor, width: int) -> Tensor:
    """Take the numbers of four bits out of their bytes again: (T, ceil(W / 2)) -> (T, W)."""
    code_TW = torch.stack([packed_TK & 15, packed_TK >> 4], dim=2).flatten(1)[:, :width]
    signed: Tensor = (code_TW ^ 8).to(torch.int8) - 8
    return signed
