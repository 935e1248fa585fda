"""Where the tensors lie in a safetensors file, read from its header. It fetches nothing."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import NamedTuple

from sft_common.model.hub.extents import Range


class Place(NamedTuple):
    """Where a tensor's bytes are in its file."""

    begin: int
    end: int
    """The first byte behind it."""

    rows: int
    """Rows of a matrix, which lie one after the other; 1 for what has fewer dimensions."""

    def first(self, rows: int | None) -> Range:
        """Return the range of the first rows; None for all of them."""
        if rows is None or rows >= self.rows:
            return self.begin, self.end
        return self.begin, self.begin + (self.end - self.begin) // self.rows * rows


def places(header: bytes, body: int, size: int) -> dict[str, Place]:
    """Return tensor name -> place in a file of `size` bytes whose body begins at `body`.

    Raises:
        ValueError: the tensors leave the file or overlap; other classes if this is no header.
    """
    found: dict[str, Place] = {}
    for name, entry in json.loads(header).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if not (type(begin) is type(end) is int and 0 <= begin <= end <= size - body):
            raise ValueError(f"tensor {name} at {begin}:{end} of {size - body} bytes")
        shape = entry["shape"]
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"tensor {name} of shape {shape}")
        found[name] = Place(body + begin, body + end, shape[0] if len(shape) > 1 else 1)
    if any(after.begin < before.end for before, after in pairwise(sorted(found.values()))):
        raise ValueError("tensors overlap")
    return found
