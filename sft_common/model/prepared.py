"""What a model folder says of the cut that it was prepared for: its split.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_common.config import SplitSpec
from sft_common.errors import ModelError, first_line

SPLIT_FILE = "split.json"
"""In a model folder: the cut that it was prepared for, whose factors it holds."""


def prepared_split(folder: Path) -> SplitSpec | None:
    """Return the cut that a model folder was prepared for; None for an ordinary one.

    Raises:
        ModelError: its file cannot be read.
    """
    facts = _split_facts(folder)
    if facts is None:
        return None
    try:
        return SplitSpec(
            cut=str(facts["cut"]),
            split_layer=int(facts["split_layer"]),
            rank=int(facts["rank"]),
            decoder_layers=int(facts.get("decoder_layers", 0)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read {folder / SPLIT_FILE}: {first_line(error)}") from error


def write_split(folder: Path, split: SplitSpec, more: Mapping[str, Any]) -> None:
    """Write what a model folder was cut like, with further facts.

    Raises:
        OSError: the disk does not take it.
    """
    facts = dataclasses.asdict(split) | dict(more)
    (folder / SPLIT_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def healing_of(folder: Path) -> dict[str, Any]:
    """Return how a model folder was healed, as `sft-cloud prepare` says it; {} if it was not.

    Raises:
        ModelError: its file cannot be read.
    """
    healing = (_split_facts(folder) or {}).get("healing", {})
    if not isinstance(healing, dict):
        raise ModelError(f"cannot read {folder / SPLIT_FILE}: healing is {str(healing)[:40]!r}")
    return healing


def _split_facts(folder: Path) -> dict[str, Any] | None:
    file = folder / SPLIT_FILE
    if not file.is_file():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"cannot read {file}: {first_line(error)}") from error
