"""An optimizer as a training script made it, said so that both sides understand it. No tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft_common.errors import ConfigError

ALGORITHMS = (
    "Adam",
    "AdamW",
    "SGD",
    "NAdam",
    "RAdam",
    "Adamax",
    "Adagrad",
    "Adadelta",
    "RMSprop",
)
"""Classes of torch.optim whose steps need gradients alone."""

MAX_GROUPS = 1024
"""More groups than scripts have: some make one for each layer."""

MAX_PARAMETERS = 65_536
"""More parameters than models have."""

MAX_SETTINGS = 64
"""More settings than any algorithm has."""

Setting = tuple[float, ...]
"""One number, or two for "betas"; a switch is 0 or 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Parameters of net2 that train alike."""

    parameters: tuple[str, ...]
    """Stock names."""

    settings: Mapping[str, Setting]
    """Of the algorithm, all but those of how it computes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnOptimizer:
    """An optimizer of torch.optim."""

    algorithm: str
    """Name of its class, one of `ALGORITHMS`."""

    groups: tuple[Group, ...]
    """At least one; together they name every parameter that trains, once."""

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise unknown_algorithm(self.algorithm)
        if not 1 <= len(self.groups) <= MAX_GROUPS:
            raise ConfigError(f"{len(self.groups)} parameter groups; 1 to {MAX_GROUPS} fit")
        names = [name for group in self.groups for name in group.parameters]
        if len(names) > MAX_PARAMETERS:
            raise ConfigError(f"{len(names):,} parameters; at most {MAX_PARAMETERS:,} fit")
        if len(set(names)) != len(names):
            raise ConfigError("a parameter is in the optimizer's groups twice")


def own_optimizer_from_facts(facts: Mapping[str, Any]) -> OwnOptimizer:
    """Return an optimizer out of what `dataclasses.asdict` made of it, through JSON or not."""
    return OwnOptimizer(
        algorithm=facts["algorithm"],
        groups=tuple(
            Group(
                parameters=tuple(group["parameters"]),
                settings={name: tuple(values) for name, values in group["settings"].items()},
            )
            for group in facts["groups"]
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupUpdate:
    """What becomes of one group in one step."""

    settings: Mapping[str, Setting]
    """Those that have changed."""

    scale: float = 1.0
    """What the gradients are multiplied with first."""

    skipped: bool = False
    """Whether the group has no gradients: nothing of it changes."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ConfigError(f"gradients are to be scaled by {self.scale}; 0 and up fit")


def unknown_algorithm(name: str) -> ConfigError:
    """Return what refuses an optimizer."""
    return ConfigError(
        f"an optimizer {name[:100]!r} cannot train a half elsewhere; choose one of torch.optim's "
        f"{', '.join(ALGORITHMS)}"
    )
