"""Which files of a model have its tensors: one, or the shards of an index. It opens no tensors."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sft_common.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def shards(folder: Path) -> dict[str, str] | None:
    """Return tensor name -> file name of a sharded model; None for one without an index.

    Raises:
        ModelError: the index is none.
    """
    index = folder / INDEX
    if not index.is_file():
        return None
    try:
        found: dict[str, str] = json.loads(index.read_text())["weight_map"]
        for file in found.values():
            if not re.fullmatch(r"[\w.-]+\.safetensors", file):
                raise ValueError(f"{file!r} is no shard's name")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of safetensors: {error}") from error
    return found


def has_weights(folder: Path) -> bool:
    """Return whether all files that have the model's tensors are there.

    Raises:
        ModelError: as `shards`.
    """
    files = set((shards(folder) or {"": SINGLE}).values())
    return all((folder / file).is_file() for file in files)
