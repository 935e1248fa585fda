"""Activations of a frozen edge, kept for all epochs: in memory, beyond a limit on disk.

The disk file has no name, so nothing is left of it however the process ends. It knows no training.

Legend: B batch, T real tokens, W width on the wire.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

from torch import Tensor

from sft_cloud.bounds import Labels
from sft_common.errors import CapacityError
from sft_common.labels import FlatLabels
from sft_common.wire.codec import numbers_of
from sft_common.wire.encodings import ENCODING_TABLE
from sft_common.wire.framing import Numbers

PART_BYTES, EXAMPLE_BYTES, LABEL_BYTES = 1000, 20, 8
"""About what the index of a part, an example in it and a label take in memory, at most."""


class _Part:
    """Where the examples of one part are, and their labels."""

    def __init__(self, numbers: bool) -> None:
        self.offsets = array("q")  # rows of the file at which each example begins
        self.lengths = array("i")
        self.labels = FlatLabels(numbers=numbers)

    def add(self, row: int, length: int, labels: Labels) -> None:
        self.offsets.append(row)
        self.lengths.append(length)
        self.labels.add(labels)


class ActivationCache:
    """The examples of one session.

    Args:
        width: W.
        encoding: how the numbers were sent, and are kept.
        memory_bytes: of activations kept in memory; more goes to disk.
        limit_bytes: more than this, labels and index included, is refused.
        numbers: whether labels are numbers (floats) instead of classes.
        folder: where the disk file is made; None for the system's place for such files.
    """

    def __init__(
        self,
        width: int,
        encoding: str,
        *,
        memory_bytes: int,
        limit_bytes: int,
        numbers: bool = False,
        folder: Path | None = None,
    ) -> None:
        self._row_bytes = ENCODING_TABLE[encoding].row_bytes(width)
        self._width, self._encoding = width, encoding
        self._limit, self._numbers = limit_bytes, numbers
        self._file = tempfile.SpooledTemporaryFile(
            max_size=memory_bytes, dir=str(folder) if folder else None
        )
        self.size_bytes = 0  # of everything that is kept, labels and index included
        self._rows = 0
        self._parts: dict[int, _Part] = {}

    @property
    def parts(self) -> list[int]:
        """Numbers of the parts that have examples."""
        return sorted(self._parts)

    def examples(self, part: int) -> int:
        """Return the number of examples of a part."""
        return len(self._parts[part].lengths) if part in self._parts else 0

    def lengths(self, part: int) -> Sequence[int]:
        """Return the real tokens of each example of a part."""
        return self._parts[part].lengths if part in self._parts else []

    def add(
        self,
        part: int,
        rows: Numbers,
        lengths: Sequence[int],
        labels: Sequence[Labels],
    ) -> None:
        """Keep a batch.

        Args:
            part: 0 for training, 1 and up for validation.
            rows: T rows of numbers as they were sent.
            lengths: of each example, B entries.
            labels: of each example, B entries, or none at all.

        Raises:
            CapacityError: the cache is full, or the disk is.
        """
        size = (
            len(rows)
            + len(lengths) * EXAMPLE_BYTES
            + sum(map(len, labels)) * LABEL_BYTES
            + (part not in self._parts) * PART_BYTES
        )
        if self.size_bytes + size > self._limit:
            raise CapacityError(
                f"the examples take more than the {self._limit / 1e9:,.2f} GB that this cloud "
                "keeps for a session; choose a smaller --rank, or train with --edge trained"
            )
        try:
            self._file.seek(self._rows * self._row_bytes)
            self._file.write(rows)
        except OSError as error:
            raise CapacityError(f"the cloud's disk does not take the examples: {error}") from error
        kept, row = self._parts.setdefault(part, _Part(self._numbers)), self._rows
        for length, known in zip(lengths, labels or repeat([]), strict=bool(labels)):
            kept.add(row, length, known)
            row += length
        self._rows = row
        self.size_bytes += size

    def batch(self, part: int, rows: Sequence[int]) -> tuple[Tensor, list[int], Labels]:
        """Return examples of a part: activations (T, W), lengths, labels in a row."""
        kept = self._parts[part]
        lengths = [kept.lengths[row] for row in rows]
        data = bytearray().join(self._read(kept.offsets[row], kept.lengths[row]) for row in rows)
        activation_TW = numbers_of(data, (sum(lengths), self._width), self._encoding)
        return activation_TW, lengths, kept.labels.of(rows)

    def close(self) -> None:
        """Delete everything."""
        self._file.close()
        self._parts.clear()

    def _read(self, row: int, length: int) -> bytes:
        self._file.seek(row * self._row_bytes)
        return self._file.read(length * self._row_bytes)
