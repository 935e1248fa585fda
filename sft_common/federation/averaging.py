"""How updates become an average: the one definition, of which every test and simulation is held.

Pure torch. It knows neither clients nor rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


class Weighted(NamedTuple):
    """What one client has made of the average that it was given."""

    tensors: Tensors
    """By stock name."""

    weight: int
    """The training examples behind it; over 0."""


def average(updates: Iterable[Weighted]) -> dict[str, Tensor]:
    """Return the mean of updates, each weighted by its examples (McMahan et al. 2017, Eq. 3).

    It is summed in float64, one update after another, and rounded to float32 once.

    Args:
        updates: at least one; all of the same names and shapes. Their order changes no more than
            the last bit.
    """
    sums: dict[str, Tensor] = {}
    total = 0
    for tensors, weight in updates:
        total += weight
        for name, tensor in tensors.items():
            part = tensor.detach().to("cpu", torch.float64) * weight
            sums[name] = sums[name] + part if name in sums else part
    return {name: (value / total).float() for name, value in sums.items()}


class Moments(NamedTuple):
    """What some tokens say of a stream: enough for its principal components, and no more."""

    tokens: int
    """T, how many they are."""

    mean: Tensor
    """(N,)"""

    scatter: Tensor
    """The sum of (x - mean) (x - mean)^T over them, (N, N)."""

    @classmethod
    def of(cls, rows_TN: Tensor) -> Moments:
        """Return the moments of some rows, in float64."""
        x = rows_TN.detach().to("cpu", torch.float64)
        mean = x.mean(dim=0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def plus(self, other: Moments) -> Moments:
        """Return the moments of both (Chan, Golub and LeVeque 1979), in float64."""
        tokens = self.tokens + other.tokens
        apart = other.mean.double() - self.mean.double()
        between = torch.outer(apart, apart) * (self.tokens * other.tokens / tokens)
        return Moments(
            tokens,
            self.mean.double() + apart * (other.tokens / tokens),
            self.scatter.double() + other.scatter.double() + between,
        )
