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
    known = list(updates)
    total = sum(weight for _, weight in known)
    return {name: _mean([(t[name], weight) for t, weight in known], total) for name in known[0][0]}


def _mean(parts: Iterable[tuple[Tensor, int]], total: int) -> Tensor:
    """Return one tensor of an average: only as much is in memory at a time."""
    whole: Tensor | None = None
    for tensor, weight in parts:
        part = tensor.detach().to("cpu", torch.float64) * weight
        whole = part if whole is None else whole.add_(part)
    assert whole is not None
    return (whole / total).float()


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
