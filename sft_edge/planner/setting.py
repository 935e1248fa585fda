"""What a plan may choose, and what it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Setting(NamedTuple):
    """What one may choose."""

    cut: str
    split_layer: int
    rank: int
    """0 for the cut "none"."""

    encoding: str
    """Of activations and of their gradients."""

    micro_batches: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the choice is held to; what is None is free."""

    cut: str | None = None
    split_layer: int | None = None
    rank: int | None = None
    encoding: str | None = None
    micro_batches: int | None = None
    labels: str = "cloud"
    """Where the loss is computed, "cloud" or "edge"."""

    max_loss: float = 1.0
    """Points of the metric that a plan may lose."""

    memory_bytes: int | None = None
    """Of the edge; None: what the scene says."""

    task: str | None = None
    """Whose accuracy counts; None: that of all that were measured."""
