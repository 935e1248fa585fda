"""Models that were healed for a cut, as further cuts of a grid. It reads their split.json alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.grid import Cut
from benchmarks.grid_options import edge_from
from sft_common.errors import ConfigError
from sft_common.model.prepared import healing_of, prepared_split


def healed_models(folders: Sequence[str], model: str) -> dict[Cut, Path]:
    """Return the cuts that models were healed for, and the folder of each.

    Args:
        folders: as `sft-cloud prepare` wrote them; ":frozen" behind one freezes the edge.
        model: name of what they must have been healed from.

    Raises:
        ConfigError: a folder is none of those, or was healed from another model.
        ModelError: its split.json cannot be read.
    """
    found: dict[Cut, Path] = {}
    for text in folders:
        plain, edge = edge_from(text)
        folder = Path(plain)
        split, healing = prepared_split(folder), healing_of(folder)
        if split is None or not healing:
            raise ConfigError(f"{folder} is no model that sft-cloud prepare made")
        if healing["model"] != model:
            raise ConfigError(
                f"{folder} was healed from {healing['model']}, the grid's model is {model}"
            )
        how = (
            f"{healing['local_steps']} + {healing['steps']} steps of {healing['batch_size']} at "
            f"{healing['learning_rate']:g}, {split.decoder_layers} decoder layers, "
            f"error {healing['relative_error']:.3f}"
        )
        name, layer, rank = split.cut, split.split_layer, split.rank
        found[Cut(name=name, layer=layer, rank=rank, edge=edge, healed=how)] = folder
    return found
