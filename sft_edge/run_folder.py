"""What a run leaves: runs/<name>/ with history.jsonl, metrics.json, job.json and the edge half.

Every file but the growing history appears whole or not at all.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from sft_common.errors import ConfigError
from sft_common.files import append_json, remove_leftovers, save_json, written_aside
from sft_common.snapshots import Snapshots
from sft_edge.resuming import kept
from sft_edge.run_files import (
    EDGE_FILE,
    HISTORY_FILE,
    JOB_FILE,
    LOCK_FILE,
    METRICS_FILE,
    START_FILE,
)

SNAPSHOTS = "snapshots"
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
        self.path, self._existed = runs / name, False
        if self.path.exists() and not (self._is_empty() and (self.path / LOCK_FILE).exists()):
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
        folder.path, folder._existed = path, True
        return folder

    def restart_history(self) -> None:
        """Begin the history anew: it will be told again from the start."""
        (self.path / HISTORY_FILE).unlink(missing_ok=True)

    def history_bytes(self) -> int:
        """Return the length of the history."""
        path = self.path / HISTORY_FILE
        return path.stat().st_size if path.exists() else 0

    def cut_history(self, length: int) -> None:
        """Forget what the history says behind so many bytes: it will be told again."""
        if self.history_bytes() > length:
            os.truncate(self.path / HISTORY_FILE, length)

    def create(self) -> None:
        """Make the folder; it may be there.

        Raises:
            ConfigError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {self.path}: {error.strerror}") from error

    def begin(self, options: argparse.Namespace, session_id: str) -> None:
        """Begin a training from its first step: write run.json, forget what was before it.

        Raises:
            ConfigError: the folder cannot be made.
        """
        self.create()
        shutil.rmtree(self.path / SNAPSHOTS, ignore_errors=True)
        (self.path / JOB_FILE).unlink(missing_ok=True)
        self.restart_history()
        begun = {"session_id": session_id, "options": kept(options), "arguments": options.given}
        save_json(self.path / START_FILE, begun)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other programs from training the run while the block runs.

        Raises:
            ConfigError: another one does, or the folder cannot be made.
        """
        self.create()
        path = self.path / LOCK_FILE
        with open(path, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(f"another program is training the run {self.path} now") from error
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                self.discard_if_empty()

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots of the edge's half."""
        return Snapshots(self.path / SNAPSHOTS)

    def finish(self) -> None:
        """Delete what only a run that goes on needs."""
        shutil.rmtree(self.path / SNAPSHOTS, ignore_errors=True)
        (self.path / START_FILE).unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Remove the folder if a new run came to nothing, so that its name is free again."""
        if not self._existed and self.path.is_dir() and self._is_empty({START_FILE}):
            shutil.rmtree(self.path)

    def _is_empty(self, besides: Set[str] = frozenset()) -> bool:
        """Return whether nothing is there but what a program leaves that is killed at once."""
        remove_leftovers(self.path)
        return {path.name for path in self.path.iterdir()} <= {LOCK_FILE, *besides}

    def log(self, **entry: Any) -> None:
        """Append one line to the history."""
        append_json(self.path / HISTORY_FILE, entry)

    def metrics(self) -> dict[str, Any] | None:
        """Return what metrics.json says; None if there is none."""
        path = self.path / METRICS_FILE
        if not path.exists():
            return None
        metrics: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return metrics

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        save_json(self.path / METRICS_FILE, metrics)

    @property
    def has_job(self) -> bool:
        """Whether job.json is there."""
        return (self.path / JOB_FILE).exists()

    def save_job(self, facts: dict[str, Any]) -> None:
        """Write job.json: what is needed to use the trained model again."""
        save_json(self.path / JOB_FILE, facts)

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
