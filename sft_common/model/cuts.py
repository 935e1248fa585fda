"""Cuts of the split layer: how its weight becomes an edge factor and a cloud part. Pure torch.

Legend: B batch, M sequence, N hidden width, H feed-forward width, R rank.

The split weight maps the post-attention stream x (B, M, N) to the feed-forward width:
x w + b with w (N, H). SFT (Shi et al. 2022, Eq. 3) writes w = u Sigma v; the edge computes the
activation a = x u (B, M, R), the cloud a Sigma v + b. Sigma is a full trainable (R, R) matrix,
diagonal only at the start.

cut       on the wire   into the projection   residual
none      x             x w + b               x
sft       x u           a Sigma v + b         eliminated
identity  x u, R = N    a Sigma v + b         a u^T (= x), to prove that the surgery changes nothing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Factors(NamedTuple):
    """The factors of a split weight w (N, H) ~ u Sigma v."""

    u_NR: Tensor
    sigma_RR: Tensor
    v_RH: Tensor


def factor(weight_NH: Tensor, rank: int) -> Factors:
    """Factor a split weight by truncated SVD (SFT, Eq. 3).

    The decomposition runs in float64 on the CPU and is cast back: signs and degenerate subspaces
    still depend on the library, so only one side may ever call this for a session.

    Args:
        weight_NH: the weight w, shape (N, H).
        rank: R, at most min(N, H).
    """
    u, s, v = torch.linalg.svd(weight_NH.detach().cpu().double(), full_matrices=False)
    return Factors(
        *(
            part.to(weight_NH.dtype).contiguous()
            for part in (u[:, :rank], torch.diag(s[:rank]), v[:rank])
        )
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What a cut does with the split weight and with the residual around the feed-forward layer."""

    factored: bool
    """Whether the weight is replaced by its factors."""

    residual: str
    """"kept" (the wire carries x itself), "eliminated" or "decoded" (from the activation)."""


CUT_TABLE = {
    "none": Cut(factored=False, residual="kept"),
    "sft": Cut(factored=True, residual="eliminated"),
    "identity": Cut(factored=True, residual="decoded"),
}
"""Name of a cut -> what it does; see the table at the head of this file."""


class EdgeFactor(nn.Module):
    """The edge's share u of the split weight: x (B, M, N) -> activation (B, M, R)."""

    def __init__(self, hidden: int, rank: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.empty(hidden, rank))

    def forward(self, x_BMN: Tensor) -> Tensor:
        """Return the activation, shape (B, M, R)."""
        return x_BMN @ self.u


class CloudFactors(nn.Module):
    """The cloud's share of the split weight: activation (B, M, R) -> (B, M, H)."""

    def __init__(self, rank: int, feed_forward: int, *, bias: bool) -> None:
        super().__init__()
        self.sigma = nn.Parameter(torch.empty(rank, rank))
        self.v = nn.Parameter(torch.empty(rank, feed_forward))
        self.bias = nn.Parameter(torch.empty(feed_forward)) if bias else None

    def forward(self, activation_BMR: Tensor) -> Tensor:
        """Return the projection Sigma v + b of the activation, shape (B, M, H)."""
        projected = activation_BMR @ self.sigma @ self.v
        return projected if self.bias is None else projected + self.bias


class Eliminated(nn.Module):
    """No residual: a zero that broadcasts against (B, M, N)."""

    def forward(self, activation: Tensor) -> Tensor:
        """Return a scalar zero."""
        return activation.new_zeros(())


class DecodedResidual(nn.Module):
    """The residual computed back from the activation: (B, M, R) -> (B, M, N)."""

    def __init__(self, rank: int, hidden: int) -> None:
        super().__init__()
        self.decoder = nn.Parameter(torch.empty(rank, hidden))

    def forward(self, activation_BMR: Tensor) -> Tensor:
        """Return the decoded stream, shape (B, M, N)."""
        return activation_BMR @ self.decoder


def residual_of(cut: Cut, rank: int, hidden: int) -> nn.Module:
    """Return the module that makes the residual out of what came over the wire."""
    match cut.residual:
        case "kept":
            return nn.Identity()
        case "eliminated":
            return Eliminated()
        case _:
            return DecodedResidual(rank, hidden)
