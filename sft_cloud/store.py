"""Trained halves on disk: written aside, flushed, renamed. safetensors and JSON, never pickle."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sft_common.config import SessionSpec, SplitSpec
from sft_common.errors import ConfigError, MismatchError, first_line
from sft_common.files import written_aside
from sft_common.model.tensor_file import save_tensors

WEIGHTS = "cloud.safetensors"
FACTS = "session.json"
PIECE_BYTES = 2**20

_SESSION_ID = re.compile("[0-9a-f]{16}")


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
            save_tensors(aside / WEIGHTS, weights)
        return self._folder / session_id

    def load(self, session_id: str, spec: SessionSpec) -> dict[str, Tensor]:
        """Return the trained net2 of a session, by stock name.

        Args:
            session_id: as the edge gives it.
            spec: of the session that is to go on with it.

        Raises:
            ConfigError: there is no such session, or its files cannot be read.
            MismatchError: it was a session of another model, cut or head.
        """
        folder = self._found(session_id)
        try:
            facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
            _check_same(session_id, facts, spec)
            weights: dict[str, Tensor] = load_file(folder / WEIGHTS)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ConfigError(f"cannot read session {session_id}: {first_line(error)}") from error
        return weights

    def pieces(self, session_id: str) -> Iterator[tuple[bytes, int]]:
        """Yield the file of a trained net2 in pieces, each with the size of the whole.

        Raises:
            ConfigError: there is no such session, or its file cannot be read.
        """
        path = self._found(session_id) / WEIGHTS
        try:
            with open(path, "rb") as file:
                total = path.stat().st_size
                while piece := file.read(PIECE_BYTES):
                    yield piece, total
        except OSError as error:
            raise ConfigError(f"cannot read session {session_id}: {first_line(error)}") from error

    def _found(self, session_id: str) -> Path:
        """Return the folder of a session; a name from a peer must never leave the store."""
        folder = self._folder / session_id
        if not _SESSION_ID.fullmatch(session_id) or not folder.is_dir():
            raise ConfigError(
                f"this cloud keeps no trained session {session_id[:40]!r}: one is kept once its "
                "training has ended"
            )
        return folder


def _check_same(session_id: str, facts: dict[str, Any], spec: SessionSpec) -> None:
    asked = dataclasses.asdict(spec)
    for field in ("model", "split", "head", "num_labels"):
        there, here = facts[field], asked[field]
        if field == "split":  # what an older file leaves out was as it is by default
            there = dataclasses.asdict(SplitSpec(**there))
        if field == "model":  # a folder may have been moved; its digests say what it is
            there, here = ({k: v for k, v in m.items() if k != "name"} for m in (there, here))
        if there != here:
            raise MismatchError(
                f"session {session_id} was trained with another {field}: {there} there, "
                f"{here} asked"
            )
