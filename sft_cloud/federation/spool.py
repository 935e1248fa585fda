"""Updates on disk until they are averaged, so that a round costs no memory for each client.

A file has a name only while it comes in; what a killed process left is removed by the next one. Its
room is free again once nobody has its tensors any more. It knows no rounds.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from torch import Tensor

from sft_common.errors import RetryLaterError, first_line
from sft_common.federation.tensors import Shapes, shapes_of, tensors_from_file, tensors_to_bytes

NAME = ".update-"
"""What the names of files on their way in begin with."""


class Spooled:
    """A file that an update is written to; for threads, one of which may close it.

    Args:
        folder: where; made if it is missing. None: the system's for temporary files.

    Raises:
        RetryLaterError: the disk does not take it; so does all that writes.
    """

    def __init__(self, folder: Path | None) -> None:
        with _room():
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=NAME, dir=folder)
        self._path, self._file = Path(name), os.fdopen(descriptor, "wb", buffering=0)
        self._using = threading.Lock()

    def write(self, data: bytes) -> None:
        """Add some bytes."""
        rest = memoryview(data)
        with self._using, _room():
            while rest:
                rest = rest[self._file.write(rest) :]

    def tensors(self, expected: Shapes, what: str) -> dict[str, Tensor]:
        """Return what it holds, read from the disk whenever it is looked at.

        Raises:
            ProtocolError: as `tensors_from_file`.
        """
        with _room():
            return tensors_from_file(self._path, expected, what)

    def close(self) -> None:
        """Take its name away."""
        with self._using:
            self._file.close()
            self._path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that was killed had not read to its end."""
    for path in folder.glob(f"{NAME}*"):
        path.unlink(missing_ok=True)


def spooled(folder: Path | None, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 tensors as a file holds them; arguments and errors as of `Spooled`."""
    if not tensors:
        return {}
    with closing(Spooled(folder)) as file:
        file.write(tensors_to_bytes(tensors))
        return file.tensors(shapes_of(tensors), "what was written")


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RetryLaterError(
            f"the cloud's disk takes no update: {error.strerror or first_line(error)}"
        ) from error
