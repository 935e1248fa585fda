"""Stands in a script's optimizer for parameters that are on the cloud, so that clipping meets them.

What a script does to the gradients of all its parameters it also does to this one, whose gradient
is the factor that the cloud's gradients are to be multiplied with. Only their norm can be asked
for, and only a common factor be put before them; everything else is refused, never done wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sft_common.errors import ConfigError

Norm = Callable[[], float]
"""Asks for the Euclidean norm of the gradients elsewhere, before the factor."""

_NORMS: frozenset[Any] = frozenset(
    {torch._foreach_norm, torch.linalg.vector_norm, torch.norm, Tensor.norm}
)

_FACTORS: frozenset[Any] = frozenset(
    {
        torch._foreach_mul_,
        torch._foreach_div_,
        Tensor.mul_,
        Tensor.div_,
        Tensor.__imul__,
        Tensor.__itruediv__,
        Tensor.zero_,
    }
)

_UNSCALE = torch._amp_foreach_non_finite_check_and_unscale_
"""Of a GradScaler: looks whether gradients are finite, and multiplies them with a factor."""

_HARMLESS = frozenset(
    {"__get__", "detach_", "requires_grad_", "dim", "size", "numel", "is_complex"}
)


class GradientElsewhere(Tensor):
    """The gradient of a `StandIn`: the factor, shape (1,)."""

    norm_there: Norm

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what a norm or a factor asks for; see `Tensor`.

        Raises:
            ConfigError: anything else was asked for.
        """
        given = dict(kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            if func in _NORMS:
                return _norm(func, args, given)
            if func is _UNSCALE:
                return _unscale(*args)
            if func in _FACTORS or func.__name__ in _HARMLESS:
                return func(*args, **given)
        raise ConfigError(
            f"{func.__name__} needs every number of the gradients, and those of net2 are on the "
            "cloud; what can be had is their norm, and a factor: use clip_grad_norm_"
        )


class StandIn(nn.Parameter):
    """One number in place of the parameters of a group that are on the cloud."""

    def __new__(cls) -> StandIn:
        """Return it, 0, with no gradient."""
        return super().__new__(cls, torch.zeros(1), requires_grad=True)

    def backward_came(self, norm: Norm) -> None:
        """Note that there are gradients elsewhere.

        Raises:
            ConfigError: those that were there have been scaled already.
        """
        if self.grad is not None and self.factor != 1:
            raise ConfigError(
                "a backward pass came after gradients had been scaled or clipped; call backward "
                "for all parts of a step before, and zero_grad after it"
            )
        gradient = torch.ones(1).as_subclass(GradientElsewhere)
        gradient.norm_there = norm
        self.grad = gradient

    @property
    def factor(self) -> float | None:
        """What the gradients elsewhere are to be multiplied with; None: there are none."""
        if self.grad is None:
            return None
        with torch._C.DisableTorchFunctionSubclass():
            return self.grad.item()


def _norm(func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """Compute Euclidean norms, some of them of gradients that are elsewhere."""
    first, order = args[0], args[1] if len(args) > 1 else given.get("ord", given.get("p", 2.0))
    if float(order) != 2.0:
        raise ConfigError(
            f"a norm of order {order:g} needs every number of the gradients, and those of net2 are "
            "on the cloud; use the Euclidean norm, norm_type=2"
        )
    if isinstance(first, GradientElsewhere):
        return _there(first)
    plain = [each for each in first if not isinstance(each, GradientElsewhere)]
    known = iter(func(plain, *args[1:], **given) if plain else ())
    return tuple(
        _there(each) if isinstance(each, GradientElsewhere) else next(known) for each in first
    )


def _unscale(gradients: Iterable[Tensor], found_inf: Tensor, inverse_scale: Tensor) -> None:
    """Do to gradients what a GradScaler asks for; those elsewhere are finite if their norm is."""
    every = list(gradients)
    if plain := [each for each in every if not isinstance(each, GradientElsewhere)]:
        _UNSCALE(plain, found_inf, inverse_scale)
    for each in every:
        if isinstance(each, GradientElsewhere):
            if not math.isfinite(each.norm_there() * each.item()):
                found_inf.fill_(1.0)
            each.mul_(inverse_scale.to(each.device))


def _there(gradient: GradientElsewhere) -> Tensor:
    return torch.tensor(gradient.norm_there() * abs(gradient.item()))
