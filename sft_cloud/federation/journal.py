"""The history of a federation on disk: one file, a line for each try, that only grows.

A round costs its own line, however many there were. What lies behind the lines that an average
counts was written by a process that was killed before that average was whole; it is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_cloud.federation.record import RoundRecord
from sft_common.errors import SnapshotError, first_line
from sft_common.files import written_aside


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How far a history goes that belongs to an average."""

    tries: int
    """Its lines."""

    sha256: str
    """Of their bytes."""


class Journal:
    """The file of one federation.

    Args:
        path: of it; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = self._size = 0
        self._digest = hashlib.sha256()

    def write(self, records: Sequence[RoundRecord]) -> Mark:
        """Add the records that are not there yet; returns how far all of them go.

        Raises:
            SnapshotError: the disk does not take them.
        """
        new = b"".join(_line(record) for record in records[self._lines :])
        try:
            self._append(new)
        except OSError as error:
            raise SnapshotError(
                f"cannot write the snapshot's history {self.path}: "
                f"{error.strerror or first_line(error)}"
            ) from error
        self._lines, self._size = len(records), self._size + len(new)
        self._digest.update(new)
        return Mark(tries=self._lines, sha256=self._digest.hexdigest())

    def read(self, mark: Mark) -> tuple[RoundRecord, ...]:
        """Return the records up to a mark, behind which the next ones are written.

        Raises:
            SnapshotError: they are not there as they were written.
        """
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)[: mark.tries]
            digest = hashlib.sha256(b"".join(lines))
            if len(lines) < mark.tries or digest.hexdigest() != mark.sha256:
                raise SnapshotError(f"the history {self.path} is damaged: it was changed")
            records = tuple(RoundRecord(**json.loads(line)) for line in lines)
        except (OSError, ValueError, TypeError) as error:
            raise SnapshotError(
                f"the history {self.path} cannot be read: {first_line(error)}"
            ) from error
        self._lines, self._size, self._digest = len(lines), sum(map(len, lines)), digest
        return records

    def _append(self, data: bytes) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(self.path) as aside:
                aside.touch()
        with open(self.path, "r+b") as file:
            file.seek(self._size)
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _line(record: RoundRecord) -> bytes:
    return json.dumps(record.facts(), separators=(",", ":")).encode("ascii") + b"\n"
