"""What a client of a federation leaves: runs/<federation>-<client>/.

    client.json          of which federation it is
    privacy.json         what it has given away, where updates are noised
    history.jsonl        a line for each try at a round
    average.safetensors  the last average, and the client's share of the cuts
    metrics.json         the outcome, written last

A client that joins again goes on in the same folder.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from sft_common.errors import ConfigError, SnapshotError, first_line
from sft_common.files import append_json, save_json, written_aside
from sft_common.model.tensor_file import save_tensors
from sft_edge.run_files import HISTORY_FILE, LOCK_FILE, METRICS_FILE

CLIENT_FILE = "client.json"
PRIVACY_FILE = "privacy.json"
AVERAGE_FILE = "average.safetensors"


class ClientFolder:
    """One client's folder.

    Args:
        path: where it is, or will be.
        federation: name of the federation.

    Raises:
        ConfigError: something else is there.
    """

    def __init__(self, path: Path, federation: str) -> None:
        self.path, self._federation = path, federation
        if path.exists() and not (path / CLIENT_FILE).is_file():
            raise ConfigError(f"{path} is there already, and no client's; choose another --client")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other programs from being the same client while the block runs.

        Raises:
            ConfigError: another one is, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {self.path}: {error.strerror}") from error
        with open(self.path / LOCK_FILE, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another program is the client of {self.path} now; choose another --client"
                ) from error
            save_json(self.path / CLIENT_FILE, {"federation": self._federation})
            yield

    def log(self, **entry: Any) -> None:
        """Append one line to the history."""
        append_json(self.path / HISTORY_FILE, entry)

    def releases(self) -> dict[str, Any] | None:
        """Return what was written of releases; None: nothing was.

        Raises:
            SnapshotError: it is not to be read.
        """
        path = self.path / PRIVACY_FILE
        if not path.exists():
            return None
        try:
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SnapshotError(
                f"{path} cannot be read ({first_line(error)}): what this client gave away is not "
                "known any more; restore the file, or join as another --client"
            ) from error
        return known

    def save_releases(self, known: Mapping[str, Any]) -> None:
        """Write what is given away, before it is."""
        save_json(self.path / PRIVACY_FILE, known)

    def save(self, average: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> None:
        """Write what came of it.

        Raises:
            OSError: the disk does not take it.
        """
        with written_aside(self.path / AVERAGE_FILE) as aside:
            save_tensors(aside, average)
        save_json(self.path / METRICS_FILE, metrics)
