"""Optimizers of torch.optim <-> what is said of them to the other side. Pure torch.

How an optimizer computes (foreach, fused, ...) is each side's own business.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sft_common.config import LARGEST
from sft_common.errors import ConfigError, first_line
from sft_common.own_optimizer import (
    ALGORITHMS,
    Group,
    GroupUpdate,
    OwnOptimizer,
    Setting,
    unknown_algorithm,
)

_HOW = frozenset({"foreach", "fused", "capturable", "differentiable"})
"""Settings that say how a step is computed, not what comes out."""


def described(optimizer: torch.optim.Optimizer, names: Sequence[tuple[str, ...]]) -> OwnOptimizer:
    """Return what the other side must know of an optimizer.

    Args:
        optimizer: of a class in `ALGORITHMS`.
        names: of each of its groups: the other side's parameters that belong to it.

    Raises:
        ConfigError: it is of another class.
    """
    algorithm = type(optimizer).__name__
    if getattr(torch.optim, algorithm, None) is not type(optimizer):
        algorithm = f"{type(optimizer).__module__}.{algorithm}"
    if algorithm not in ALGORITHMS:
        raise unknown_algorithm(algorithm)
    groups = tuple(
        Group(parameters=theirs, settings=settings_of(algorithm, group))
        for theirs, group in zip(names, optimizer.param_groups, strict=True)
    )
    return OwnOptimizer(algorithm=algorithm, groups=groups)


def settings_of(algorithm: str, group: Mapping[str, Any]) -> dict[str, Setting]:
    """Return the settings of a parameter group."""
    return {name: _numbers(group[name]) for name in _defaults(algorithm)}


def built(module: nn.Module, spec: OwnOptimizer) -> torch.optim.Optimizer:
    """Return an optimizer over a module; parameters that it does not name stop training.

    Args:
        module: with its numbers.
        spec: what the other side said.

    Raises:
        ConfigError: it names a parameter that is not there, or a setting that does not fit.
    """
    parameters = dict(module.named_parameters())
    named = {name for group in spec.groups for name in group.parameters}
    if unknown := named - parameters.keys():
        raise ConfigError(
            f"the optimizer names {min(unknown)[:200]!r}, which is no parameter of net2 "
            f"(which has {len(parameters)})"
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(parameter.requires_grad and name in named)
    groups = [
        {
            "params": [parameters[name] for name in group.parameters],
            **checked(spec.algorithm, group.settings, whole=True),
        }
        for group in spec.groups
    ]
    # Adagrad fills its sums when it is made, as its own arguments say and no group's.
    usual = {name: value for name, value in groups[0].items() if name != "params"}
    optimizer: torch.optim.Optimizer = _class_of(spec.algorithm)(groups, **usual)
    return optimizer


def update(
    optimizer: torch.optim.Optimizer, algorithm: str, updates: Sequence[GroupUpdate]
) -> None:
    """Bring an optimizer's settings and gradients to where the other side has its own.

    Raises:
        ConfigError: a setting does not fit, or there is another number of groups.
    """
    groups = optimizer.param_groups
    if len(updates) != len(groups):
        raise ConfigError(
            f"{len(updates)} groups are to be updated, the optimizer has {len(groups)}"
        )
    pairs = [*zip(groups, updates, strict=True)]
    changes = [checked(algorithm, each.settings, group) for group, each in pairs]
    for (group, each), change in zip(pairs, changes, strict=True):
        group.update(change)
        for parameter in group["params"]:
            if each.skipped:
                parameter.grad = None
            elif each.scale == 0 and parameter.grad is not None:
                parameter.grad.zero_()  # what is not finite, too
            elif each.scale != 1 and parameter.grad is not None:
                parameter.grad.mul_(each.scale)


def norms(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the Euclidean norm of the gradients of each group."""
    return [norm(p.grad for p in group["params"]) for group in optimizer.param_groups]


def norm(gradients: Iterable[Tensor | None]) -> float:
    """Return the Euclidean norm of gradients that are there, 0 if none is.

    It is finite if they are, though their squares may be no float32 numbers.
    """
    known = [gradient for gradient in gradients if gradient is not None]
    if not known:
        return 0.0
    found = float(torch.nn.utils.get_total_norm(known))
    if math.isfinite(found):
        return found
    return float(torch.nn.utils.get_total_norm([gradient.double() for gradient in known]))


def checked(
    algorithm: str,
    settings: Mapping[str, Setting],
    group: Mapping[str, Any] | None = None,
    *,
    whole: bool = False,
) -> dict[str, Any]:
    """Return settings as torch.optim takes them.

    Args:
        algorithm: one of `ALGORITHMS`.
        settings: from the other side.
        group: what they change; None: the algorithm's defaults.
        whole: whether all settings must be there.

    Raises:
        ConfigError: one is unknown, missing, or out of its range.
    """
    defaults = _defaults(algorithm)
    if unknown := settings.keys() - defaults.keys():
        raise ConfigError(f"optimizer {algorithm} has no setting {min(unknown)[:100]!r}")
    if whole and (missing := defaults.keys() - settings.keys()):
        raise ConfigError(f"optimizer {algorithm} lacks its setting {min(missing)!r}")
    found = {name: _like(defaults[name], name, values) for name, values in settings.items()}
    if found:
        now = {name: (group or defaults)[name] for name in defaults}
        try:
            _class_of(algorithm)([torch.zeros(1)], **{**now, **found})
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(f"optimizer {algorithm}: {first_line(error)}") from error
    return found


@cache
def _defaults(algorithm: str) -> dict[str, Any]:
    """Return an algorithm's settings as they are at first, without those of how it computes."""
    known = inspect.signature(_class_of(algorithm)).parameters
    return {
        name: parameter.default
        for name, parameter in known.items()
        if name not in _HOW and name != "params"
    }


def _class_of(algorithm: str) -> Any:
    return getattr(torch.optim, algorithm)


def _numbers(value: Any) -> Setting:
    several = value if isinstance(value, tuple | list) else (value,)
    return tuple(float(number) for number in several)


def _like(default: Any, name: str, values: Setting) -> Any:
    """Return the numbers of a setting in the form of its default."""
    count = len(default) if isinstance(default, tuple) else 1
    if len(values) != count or not all(abs(number) <= LARGEST for number in values):
        raise ConfigError(
            f"setting {name} is {tuple(values[:5])}; {count} of {-LARGEST:g} to {LARGEST:g} fit"
        )
    if isinstance(default, bool):
        return bool(values[0])
    return tuple(values) if isinstance(default, tuple) else values[0]
