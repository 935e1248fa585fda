"""Updates on disk until they are averaged, so that a round costs no memory for each client.

A file has a name only while it comes in. Its room is free again once nobody has its tensors any
more, however the process ends. It knows no rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from torch import Tensor

from sft_common.errors import RetryLaterError, first_line
from sft_common.federation.tensors import Shapes, shapes_of, tensors_from_file, tensors_to_bytes
from sft_common.files import PARTIAL


class Spooled:
    """A file that an update is written to.

    Args:
        folder: where; made if it is missing. None: the system's for temporary files.

    Raises:
        RetryLaterError: the disk does not take it; so does all that writes.
    """

    def __init__(self, folder: Path | None) -> None:
        with _room():
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.NamedTemporaryFile(
                dir=folder, prefix=".update-", suffix=PARTIAL, buffering=0
            )

    def write(self, data: bytes) -> None:
        """Add some bytes."""
        rest = memoryview(data)
        with _room():
            while rest:
                rest = rest[self._file.write(rest) :]

    def tensors(self, expected: Shapes, what: str) -> dict[str, Tensor]:
        """Return what it holds, read from the disk whenever it is looked at.

        Raises:
            ProtocolError: as `tensors_from_file`.
        """
        return tensors_from_file(Path(self._file.name), expected, what)

    def close(self) -> None:
        """Take its name away."""
        self._file.close()


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
