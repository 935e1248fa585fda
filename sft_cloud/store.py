"""Trained halves on disk: written aside, flushed, renamed. safetensors and JSON, never pickle."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from sft_common.config import SessionSpec


class Store:
    """A folder with one subfolder for each finished session: cloud.safetensors and session.json."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def save(
        self, session_id: str, spec: SessionSpec, steps: int, weights: dict[str, Tensor]
    ) -> Path:
        """Write the trained net2 of a session; the subfolder appears whole or not at all.

        Raises:
            OSError: the disk is full or not writable.
        """
        aside, final = self._folder / f".{session_id}.partial", self._folder / session_id
        aside.mkdir()
        try:
            save_file({name: w.contiguous() for name, w in weights.items()}, aside / WEIGHTS)
            facts = {"session": session_id, "steps": steps, **dataclasses.asdict(spec)}
            (aside / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
            shutil.copymode(aside / FACTS, aside / WEIGHTS)  # safetensors ignores the umask
            for path in (aside / WEIGHTS, aside / FACTS, aside):
                _flush(path)
            aside.rename(final)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _flush(self._folder)
        return final


WEIGHTS = "cloud.safetensors"
FACTS = "session.json"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
