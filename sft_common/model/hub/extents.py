"""Sets of bytes of a file, as ranges in order. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]
"""Begin and end of some bytes of a file; the end is not one of them."""


def united(ranges: Iterable[Range], gap: int = 0) -> list[Range]:
    """Return ranges in order, made one where they are no more than `gap` apart; no empty ones."""
    found: list[Range] = []
    for begin, end in sorted(some for some in ranges if some[0] < some[1]):
        if found and begin <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def without(ranges: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """Return what is left of ranges; both arguments are as `united` returns them."""
    left: list[Range] = []
    for begin, end in ranges:
        for taken_begin, taken_end in taken:
            if begin < taken_end and taken_begin < end:
                left.append((begin, taken_begin))
                begin = taken_end
        left.append((begin, end))
    return [(begin, end) for begin, end in left if begin < end]
