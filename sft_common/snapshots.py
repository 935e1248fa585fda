"""Snapshots on disk: written aside, flushed, renamed, and checked when they are read.

A snapshot is a folder: one file of tensors for each group of them, and snapshot.json with facts and
the SHA-256 of everything. safetensors and JSON only. It knows neither halves nor sessions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sft_common.errors import SnapshotError, first_line
from sft_common.files import remove_leftovers, written_aside
from sft_common.model.tensor_file import save_tensors

FACTS = "snapshot.json"

_STEP = "step-"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot holds."""

    facts: dict[str, Any]
    """Whatever JSON can say."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """Group -> name -> tensor. An empty group is left out."""


class Snapshots:
    """A folder of snapshots; it is made with the first of them.

    Args:
        folder: where they are; nobody else writes there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all that were written whole, in order; none of them is read."""
        if not self._folder.is_dir():
            return []
        return sorted(path.parent.name for path in self._folder.glob(f"[!.]*/{FACTS}"))

    def by_age(self) -> list[str]:
        """Return the same names, those first that were written first."""
        return sorted(self.names(), key=lambda name: (self._folder / name / FACTS).stat().st_mtime)

    def steps(self) -> list[int]:
        """Return the steps behind which snapshots were taken, ascending."""
        names = (name.removeprefix(_STEP) for name in self.names() if name.startswith(_STEP))
        return sorted(int(digits) for digits in names if digits.isdecimal())

    def remove_older(self, count: int) -> None:
        """Delete those behind steps but for the newest ones.

        Args:
            count: how many stay, at least 1.

        Raises:
            SnapshotError: the disk does not let go of one.
        """
        for step in self.steps()[:-count]:
            self.remove(step_name(step))

    def write(self, name: str, snapshot: Snapshot) -> None:
        """Write a snapshot; one of that name before it is replaced.

        Raises:
            SnapshotError: the disk does not take it; nothing of it is left there.
        """
        final = self._folder / name
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._folder)
            with written_aside(final) as aside:
                aside.mkdir()
                _write(aside, snapshot)
                if final.exists():
                    shutil.rmtree(final)
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise SnapshotError(
                f"cannot write the snapshot {final}: {reason or first_line(error)}"
            ) from error

    def read(self, name: str) -> Snapshot:
        """Return a snapshot, every byte of which is as it was written.

        Raises:
            SnapshotError: it is not there, damaged, or cannot be read.
        """
        folder = self._folder / name
        try:
            content, tensors = self._content(name), {}
            for group, expected in content["files"].items():
                file = folder / f"{Path(group).name}.safetensors"
                _check(file, expected)
                tensors[group] = load_file(file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise SnapshotError(
                f"the snapshot {folder} cannot be read: {first_line(error)}"
            ) from error
        return Snapshot(content["facts"], tensors)

    def facts(self, name: str) -> dict[str, Any]:
        """Return the facts of a snapshot; its tensors are not looked at.

        Raises:
            SnapshotError: as of `read`.
        """
        try:
            facts: dict[str, Any] = self._content(name)["facts"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SnapshotError(
                f"the snapshot {self._folder / name} cannot be read: {first_line(error)}"
            ) from error
        return facts

    def _content(self, name: str) -> dict[str, Any]:
        folder = self._folder / name
        sealed = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        content: dict[str, Any] = sealed["content"]
        if _digest(content) != sealed["sha256"]:
            raise SnapshotError(f"the snapshot {folder} is damaged: {FACTS} was changed")
        return content

    def remove(self, name: str) -> None:
        """Delete a snapshot, if it is there.

        Raises:
            SnapshotError: the disk does not let go of it.
        """
        try:
            shutil.rmtree(self._folder / name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise SnapshotError(
                f"cannot delete the snapshot {self._folder / name}: {error.strerror}"
            ) from error


def step_name(step: int) -> str:
    """Return the name of the snapshot behind a step."""
    return f"{_STEP}{step:08d}"


def _write(folder: Path, snapshot: Snapshot) -> None:
    files = {}
    for group, tensors in snapshot.tensors.items():
        assert group == Path(group).name
        if tensors:
            file = folder / f"{group}.safetensors"
            save_tensors(file, tensors)
            files[group] = _digest_of_file(file)
    content = {"facts": snapshot.facts, "files": files}
    sealed = {"content": content, "sha256": _digest(content)}
    (folder / FACTS).write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")


def _check(file: Path, expected: str) -> None:
    found = _digest_of_file(file)
    if found != expected:
        raise SnapshotError(
            f"the snapshot {file.parent} is damaged: {file.name} has SHA-256 {found[:16]}..., "
            f"{expected[:16]}... was written"
        )


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of_file(file: Path) -> str:
    with open(file, "rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
