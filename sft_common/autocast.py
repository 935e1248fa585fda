"""How a script computes under torch.autocast, said so that the other half computes alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sft_common.errors import ConfigError

AUTOCASTS = ("float16", "bfloat16")
"""What the matrix products of a script may be computed in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Autocast:
    """What is said with every exchange under autocast."""

    computes: str
    """What matrix products are computed in, one of `AUTOCASTS`."""

    activation: str = "float32"
    """What the activation is where it comes from: that, or "float32"."""

    def __post_init__(self) -> None:
        if self.computes not in AUTOCASTS:
            raise ConfigError(
                f"autocast to {self.computes}; halves compute in one of: {', '.join(AUTOCASTS)}"
            )
        if self.activation not in ("float32", self.computes):
            raise ConfigError(
                f"an activation of {self.activation} came from autocast to {self.computes}"
            )

    @classmethod
    def around(cls, activation: Tensor) -> Autocast | None:
        """Return how this thread computes what an activation has just come from; None: as usual."""
        device = activation.device.type
        if not torch.is_autocast_enabled(device):
            return None
        return cls(
            computes=name_of(torch.get_autocast_dtype(device)), activation=name_of(activation.dtype)
        )


def name_of(dtype: torch.dtype) -> str:
    """Return what people call a type of numbers."""
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    """Return the type of numbers of that name, "float32" or one of `AUTOCASTS`."""
    assert name in ("float32", *AUTOCASTS)
    dtype: torch.dtype = getattr(torch, name)
    return dtype
