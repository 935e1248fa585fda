"""Trained halves on disk: written aside, flushed, renamed. safetensors and JSON, never pickle."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from sft_common.config import SessionSpec
from sft_common.files import written_aside

WEIGHTS = "cloud.safetensors"
FACTS = "session.json"


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
            OSError, SafetensorError: the disk is full or not writable.
        """
        with written_aside(self._folder / session_id) as aside:
            aside.mkdir()
            facts = {"session": session_id, "steps": steps, **dataclasses.asdict(spec)}
            (aside / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
            save_file({name: w.contiguous() for name, w in weights.items()}, aside / WEIGHTS)
            shutil.copymode(aside / FACTS, aside / WEIGHTS)  # safetensors ignores the umask
        return self._folder / session_id
