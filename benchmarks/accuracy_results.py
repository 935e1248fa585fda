"""The file of results: one JSON line for every run, in the order in which they ended.

A line holds what tells the run from all others, in this benchmark the fields of `Run`, and either
what was measured or "error". A process that dies while it writes leaves a torn last line, which
counts for nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.grid import Key, key_of
from sft_common.errors import DataError

Line = dict[str, Any]
"""One line of results."""

KeyOf = Callable[[Mapping[str, Any]], Key]
"""Returns the key of a line; a KeyError names a field that it lacks."""


class ResultsFile:
    """A file of results that grows and has one writer; a context. Opening drops a torn last line.

    Args:
        path: need not be there yet, nor its folder.
        key: of its lines.

    Raises:
        DataError: the file is not one of results (names the line), or has a writer already.
    """

    def __init__(self, path: Path, key: KeyOf = key_of) -> None:
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab")
        try:
            _lock(self._file, path)
            self.lines = read_results(path, key)
            _end_whole(path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def done(self) -> set[Key]:
        """Return the runs that came to a good end."""
        return {self._key(line) for line in self.lines if "error" not in line}

    def append(self, line: Line) -> None:
        """Add a run's line; it is on the disk when this returns."""
        self.lines.append(line)
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_results(path: Path, key: KeyOf = key_of) -> list[Line]:
    """Return the lines of a file of results, without a torn last one.

    Raises:
        DataError: the file is not one of results; names the line.
        OSError: it cannot be read.
    """
    *whole, tail = path.read_bytes().split(b"\n")
    numbered = [(raw, f"{path}:{n}") for n, raw in enumerate(whole, start=1) if raw.strip()]
    if not _is_torn(tail):
        numbered.append((tail, f"{path}:{len(whole) + 1}"))
    return [_parsed(raw, place, key) for raw, place in numbered]


def latest(lines: Iterable[Line], key: KeyOf = key_of) -> tuple[list[Line], list[Line]]:
    """Return the last good line of every run, and the last line of those that have only failed."""
    good: dict[Key, Line] = {}
    failed: dict[Key, Line] = {}
    for line in lines:
        (failed if "error" in line else good)[key(line)] = line
    return list(good.values()), [line for which, line in failed.items() if which not in good]


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other benchmarks out until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"another benchmark is writing {path}; wait for it, or give this one its own --out"
        ) from error


def _end_whole(path: Path) -> None:
    """Take a torn last line away, or end a whole one that only lacks its line feed."""
    raw = path.read_bytes()
    tail = raw.rpartition(b"\n")[2]
    with open(path, "r+b") as file:
        if _is_torn(tail):
            file.truncate(len(raw) - len(tail))
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def _is_torn(tail: bytes) -> bool:
    try:
        json.loads(tail)
    except ValueError:  # also where a character is torn
        return True
    return False


def _parsed(raw: bytes, place: str, key: KeyOf) -> Line:
    try:
        line = json.loads(raw)
        key(line)
    except (ValueError, TypeError) as error:
        raise DataError(f"{place} is not a line of results: {error}") from error
    except KeyError as error:
        raise DataError(f"{place} is not a line of results: no {error}") from error
    assert isinstance(line, dict)
    return line
