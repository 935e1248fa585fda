"""Models that were healed for a cut, as further cuts of a grid. It reads their files, no more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.grid import Cut
from benchmarks.grid_options import manner_from
from sft_common.config import SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.prepared import healing_of, prepared_split


def healed_models(folders: Sequence[str], model: str) -> dict[Cut, Path]:
    """Return the cuts that models were healed for, and the folder of each.

    Args:
        folders: as `sft-cloud prepare` wrote them, with what `manner_from` takes behind.
        model: name of what they must have been healed from.

    Raises:
        ConfigError: a folder is none of those, or was healed from another model.
        ModelError: its split.json cannot be read.
        OSError: its weights cannot be read.
    """
    found: dict[Cut, Path] = {}
    for text in folders:
        plain, edge, encoding = manner_from(text)
        folder = Path(plain)
        split, healing = prepared_split(folder), healing_of(folder)
        if split is None or not healing:
            raise ConfigError(f"{folder} is no model that sft-cloud prepare made")
        if healing["model"] != model:
            raise ConfigError(
                f"{folder} was healed from {healing['model']}, the grid's model is {model}"
            )
        how = f"{_recipe(folder, split, healing)}; {_outcome(folder, healing)}"
        name, layer, rank = split.cut, split.split_layer, split.rank
        cut = Cut(name=name, layer=layer, rank=rank, edge=edge, healed=how, encoding=encoding)
        found[cut] = folder
    return found


def _recipe(folder: Path, split: SplitSpec, healing: Mapping[str, Any]) -> str:
    try:
        steps = f"{healing['local_steps']} + {healing['steps']} steps of {healing['batch_size']}"
        rate, texts = float(healing["learning_rate"]), healing["texts"]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder} does not say how it was healed: {error!r}") from error
    return f"{steps} at {rate:g} on {texts} texts, {split.decoder_layers} decoder layers"


def _outcome(folder: Path, healing: Mapping[str, Any]) -> str:
    """Return the error, and a digest that tells two folders of one recipe apart."""
    with open(folder / "model.safetensors", "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"error {healing.get('relative_error')}, weights {digest[:8]}"
