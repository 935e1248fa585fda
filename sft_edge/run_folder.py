"""What a run leaves: runs/<name>/ with history.jsonl, metrics.json, job.json and the edge half.

Every file but the growing history appears whole or not at all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from sft_common.errors import ConfigError
from sft_common.files import written_aside

METRICS_FILE = "metrics.json"
JOB_FILE = "job.json"
HISTORY_FILE = "history.jsonl"
EDGE_FILE = "edge.safetensors"
MAX_NAME = 200


class RunFolder:
    """One run's folder.

    Raises:
        ConfigError: a run of that name is there already, or the name is no plain folder name.
    """

    def __init__(self, runs: Path, name: str) -> None:
        if name != Path(name).name or name in ("", ".", "..") or len(name) > MAX_NAME:
            raise ConfigError(
                f"run name {name!r} must be a plain folder name: no slashes, "
                f"1 to {MAX_NAME} characters"
            )
        self.path = runs / name
        if self.path.exists():
            raise ConfigError(f"run {self.path} is there already; choose another --name")

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Return the folder of a run that is there.

        Raises:
            ConfigError: it is not.
        """
        if not path.is_dir():
            raise ConfigError(f"there is no run {path}")
        folder = cls.__new__(cls)
        folder.path = path
        return folder

    def restart_history(self) -> None:
        """Begin the history anew: it will be told again from the start."""
        (self.path / HISTORY_FILE).unlink(missing_ok=True)

    def create(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"cannot make {self.path}: {error.strerror}") from error

    def discard_if_empty(self) -> None:
        """Remove the folder if the run came to nothing, so that its name is free again."""
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def log(self, **entry: Any) -> None:
        """Append one line to the history."""
        line = json.dumps(entry, allow_nan=False) + "\n"
        with open(self.path / HISTORY_FILE, "a", encoding="utf-8") as file:
            file.write(line)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        self._save_json(METRICS_FILE, metrics)

    def save_job(self, facts: dict[str, Any]) -> None:
        """Write job.json: what is needed to use the trained model again."""
        self._save_json(JOB_FILE, facts)

    def _save_json(self, name: str, facts: dict[str, Any]) -> None:
        with written_aside(self.path / name) as aside:
            text = json.dumps(facts, indent=2, allow_nan=False)
            aside.write_text(text + "\n", encoding="utf-8")

    def save_edge(self, weights: dict[str, Tensor]) -> None:
        """Write the parameters of net1 by their stock names.

        Raises:
            OSError: the disk does not take them.
        """
        from sft_common.model.tensor_file import save_tensors

        with written_aside(self.path / EDGE_FILE) as aside:
            try:
                save_tensors(aside, weights)
            except SafetensorError as error:
                raise OSError(f"cannot write {self.path / EDGE_FILE}: {error}") from error
