"""What a run leaves: runs/<name>/ with history.jsonl, metrics.json and the edge half.

Every file but the growing history appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from sft_common.errors import ConfigError

METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.jsonl"
EDGE_FILE = "edge.safetensors"


class RunFolder:
    """One run's folder; it is made when the first file is.

    Raises:
        ConfigError: a run of that name is there already, or the name is no plain folder name.
    """

    def __init__(self, runs: Path, name: str) -> None:
        if name != Path(name).name or name in ("", ".", ".."):
            raise ConfigError(f"run name {name!r} must be a plain folder name, without slashes")
        self.path = runs / name
        if self.path.exists():
            raise ConfigError(f"run {self.path} is there already; choose another --name")

    def create(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"cannot make {self.path}: {error.strerror}") from error

    def log(self, **entry: Any) -> None:
        """Append one line to the history."""
        with open(self.path / HISTORY_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        aside = self._aside(METRICS_FILE)
        aside.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        self._publish(aside, METRICS_FILE)

    def save_edge(self, weights: dict[str, Tensor]) -> None:
        """Write the parameters of net1 by their stock names."""
        from safetensors.torch import save_file

        aside = self._aside(EDGE_FILE)
        save_file({name: w.detach().cpu().contiguous() for name, w in weights.items()}, aside)
        shutil.copymode(self.path / HISTORY_FILE, aside)  # safetensors ignores the umask
        self._publish(aside, EDGE_FILE)

    def _aside(self, name: str) -> Path:
        return self.path / f".{name}.partial"

    def _publish(self, aside: Path, name: str) -> None:
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        aside.rename(self.path / name)
