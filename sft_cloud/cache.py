"""Activations of a frozen edge, kept on disk for all epochs; they do not outlast what they are for.

The system keeps in memory what there is room for. It knows no training.

Legend: B batch, T real tokens, W width on the wire.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sft_cloud.bounds import Labels
from sft_common.errors import CapacityError, SnapshotError, first_line
from sft_common.labels import FlatLabels
from sft_common.snapshots import Snapshot
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

    def arrays(self) -> dict[str, array[Any]]:
        """Return all of it, by name."""
        return {
            "offsets": self.offsets,
            "lengths": self.lengths,
            "labels": self.labels.labels,
            "starts": self.labels.starts,
        }


class ActivationCache:
    """The examples of one session, in one file and an index.

    Args:
        width: W.
        encoding: how the numbers were sent, and are kept.
        limit_bytes: more than this, labels and index included, is refused.
        numbers: whether labels are numbers (floats) instead of classes.
        path: of the file; None for one without a name, of which nothing is left however the
            process ends.

    Raises:
        CapacityError: the disk does not take the file.
    """

    def __init__(
        self,
        width: int,
        encoding: str,
        *,
        limit_bytes: int,
        numbers: bool = False,
        path: Path | None = None,
    ) -> None:
        self._row_bytes = ENCODING_TABLE[encoding].row_bytes(width)
        self._width, self._encoding = width, encoding
        self._limit, self._numbers, self._path = limit_bytes, numbers, path
        self.size_bytes = 0  # of everything that is kept, labels and index included
        self.batches = 0
        """That were added."""

        self._rows = 0
        self._parts: dict[int, _Part] = {}
        self._digest = hashlib.sha256()
        try:
            self._file = open(path, "w+b", opener=_private) if path else TemporaryFile()
        except OSError as error:
            raise _not_taken(error) from error

    @classmethod
    def unsealed(cls, path: Path, index: Snapshot) -> ActivationCache:
        """Return the cache that another process has sealed; there is no room for more in it.

        Args:
            path: of its file.
            index: what `sealed` returned.

        Raises:
            SnapshotError: the file is not what it was.
        """
        facts = index.facts
        try:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                    raise SnapshotError(f"the examples in {path} are not those that were stored")
            numbers = bool(facts["numbers"])
            cache = cls(facts["width"], facts["encoding"], limit_bytes=0, numbers=numbers)
            cache._file.close()
            cache._file, cache._path = open(path, "r+b"), path
            cache._rows, cache.size_bytes = facts["rows"], facts["size_bytes"]
            for number in facts["parts"]:
                part = cache._parts[number] = _Part(numbers)
                for name, kept in part.arrays().items():
                    del kept[:]
                    kept.frombytes(index.tensors[f"part-{number}"][name].numpy().tobytes())
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"cannot read {path}: {first_line(error)}") from error
        return cache

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
            _write_at(self._file.fileno(), rows, self._rows * self._row_bytes)
        except OSError as error:
            raise _not_taken(error) from error
        self._digest.update(rows)
        kept, row = self._parts.setdefault(part, _Part(self._numbers)), self._rows
        for length, known in zip(lengths, labels or repeat([]), strict=bool(labels)):
            kept.add(row, length, known)
            row += length
        self._rows = row
        self.size_bytes += size
        self.batches += 1

    def batch(self, part: int, rows: Sequence[int]) -> tuple[Tensor, list[int], Labels]:
        """Return examples of a part: activations (T, W), lengths, labels in a row."""
        kept = self._parts[part]
        lengths = [kept.lengths[row] for row in rows]
        data = bytearray().join(self._read(kept.offsets[row], kept.lengths[row]) for row in rows)
        activation_TW = numbers_of(data, (sum(lengths), self._width), self._encoding)
        return activation_TW, lengths, kept.labels.of(rows)

    def sealed(self) -> Snapshot:
        """Flush the file to disk and return the index, with which all is found again.

        Raises:
            CapacityError: the disk does not take it.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _not_taken(error) from error
        facts = {
            "width": self._width,
            "encoding": self._encoding,
            "numbers": self._numbers,
            "rows": self._rows,
            "sha256": self._digest.hexdigest(),
            "size_bytes": self.size_bytes,
            "parts": self.parts,
        }
        index = {
            f"part-{number}": {
                name: torch.from_numpy(np.array(numbers))
                for name, numbers in self._parts[number].arrays().items()
            }
            for number in self.parts
        }
        return Snapshot(facts, index)

    def close(self) -> None:
        """Delete everything, and the file's folder if nothing else is in it."""
        self.release()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):
                self._path.parent.rmdir()

    def release(self) -> None:
        """Close the file, which stays if it has a name."""
        self._file.close()
        self._parts.clear()

    def _read(self, row: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length * self._row_bytes, row * self._row_bytes)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_at(descriptor: int, data: Numbers, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _not_taken(error: OSError) -> CapacityError:
    reason = error.strerror or first_line(error)
    return CapacityError(f"the cloud's disk does not take the examples: {reason}")
