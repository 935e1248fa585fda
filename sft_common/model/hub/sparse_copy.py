"""A file with holes, and the sidecar that says which bytes are no holes. It fetches nothing.

The copy of a remote file is as long as the original and filled only where bytes were fetched; all
else reads as zeros. The sidecar is written after the bytes are on disk, so that a transfer that
breaks goes on where it stopped, in this process or the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from sft_common.files import written_aside
from sft_common.model.hub.extents import Range, united, without

RECORD_EVERY = 8 * 1024 * 1024
"""Bytes after which a running transfer is flushed to disk and recorded."""


class TransferBroken(Exception):
    """The transfer ended early and may go on."""


class VersionChanged(Exception):
    """The remote file is no longer the one that was copied."""


class SparseCopy:
    """One such file. Its sidecar lies beside it."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self.stored = 0
        """Bytes written since this object was made."""
        self._path = path
        self._sidecar = path.with_name(f"{path.name}.ranges")
        self._version = ""
        self._pieces: set[tuple[int, int, int]] = set()  # begin, end, CRC-32

    def load(self) -> None:
        """Take up what is there; bytes that are not as they were recorded count as missing."""
        try:
            digest, _, body = self._sidecar.read_text().partition("\n")
            if digest != _digest(body):
                raise ValueError(f"{self._sidecar} is damaged")
            self._version, self.size, pieces = json.loads(body)
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size != self.size:
                    raise ValueError(f"{self._path} is cut short")
                known = self._pieces
                self._pieces = {
                    (begin, end, crc)
                    for begin, end, crc in pieces
                    if (begin, end, crc) in known or _crc(file, begin, end) == crc
                }
        except (FileNotFoundError, ValueError):
            self.drop()

    def drop(self) -> None:
        """Forget all; the next `agree` begins a new file."""
        self._sidecar.unlink(missing_ok=True)
        self._version, self.size, self._pieces = "", 0, set()

    def agree(self, version: str, size: int) -> None:
        """Begin the file if there is none.

        Raises:
            VersionChanged: it is the copy of another version.
        """
        if not self.size:
            with written_aside(self._path) as aside, open(aside, "wb") as file:
                file.truncate(size)
            self._version, self.size = version, size
        elif (version, size) != (self._version, self.size):
            raise VersionChanged

    def missing(self, wanted: Iterable[Range], gap: int = 0) -> list[Range]:
        """Return what is not there; ranges that are no more than `gap` apart as one."""
        there = united((begin, end) for begin, end, _ in self._pieces)
        inside = ((begin, min(end, self.size or end)) for begin, end in wanted)
        return united(without(united(inside), there), gap)

    def read(self, begin: int, end: int) -> bytes:
        """Return some bytes, whether they are there or zeros."""
        with open(self._path, "rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    def store(self, begin: int, end: int, pieces: Iterator[bytes]) -> None:
        """Write bytes as they come and record them now and then, at the latest when they stop.

        Raises:
            TransferBroken: they stopped before `end` or went on behind it.
        """
        at, crc = begin, 0
        with open(self._path, "r+b") as file:
            file.seek(begin)
            try:
                for piece in pieces:
                    if at + len(piece) > end:
                        raise TransferBroken("the server sent more than it was asked for")
                    file.write(piece)
                    self.stored += len(piece)
                    at, crc = at + len(piece), zlib.crc32(piece, crc)
                    if at - begin >= RECORD_EVERY:
                        self._record(file, begin, at, crc)
                        begin, crc = at, 0
            finally:
                if at > begin:
                    self._record(file, begin, at, crc)
        if at < end:
            raise TransferBroken(f"{end - at} bytes did not come")

    def _record(self, file: BinaryIO, begin: int, end: int, crc: int) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._pieces.add((begin, end, crc))
        body = json.dumps([self._version, self.size, sorted(self._pieces)])
        with written_aside(self._sidecar) as aside:
            aside.write_text(f"{_digest(body)}\n{body}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _crc(file: BinaryIO, begin: int, end: int) -> int:
    file.seek(begin)
    crc = 0
    while begin < end and (piece := file.read(min(end - begin, 1024 * 1024))):
        begin, crc = begin + len(piece), zlib.crc32(piece, crc)
    return crc
