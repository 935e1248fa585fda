"""What a transformer block is made of, in stages that a cut can fall between. Pure torch.

Both kinds of block are described by the same stages; only the norm stands elsewhere:

    stream h     attention with its own residual (and, in post-norm blocks, its own norm)
    input x      post-norm: h                      pre-norm: norm(h)
    expanded p   projection(s) of x, N -> H        gated: [gate(x), up(x)], N -> 2H
    inner g      act(p)                            gated: act(gate) * up
    output o     contraction of g, H -> N
    sum y        dropout(o) + h
    block        post-norm: norm(y)                pre-norm: y

Legend: B batch, M sequence, N hidden width, H feed-forward width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """Where a block keeps the modules of its stages. Paths are attribute paths of the block."""

    attention: tuple[str, ...]
    """Modules that `attend` uses."""

    attend: Callable[..., Tensor]
    """(block, hidden (B, M, N), what the stock block gets) -> stream h (B, M, N)."""

    projections: tuple[str, ...]
    """The feed-forward input projection; two for a gated layer, the gate first."""

    activation: str
    """The function between projection and contraction."""

    contraction: str
    """The feed-forward output projection."""

    dropout: str | None
    """Dropout of the feed-forward output; None where the family has none."""

    norm: str
    """The norm of the feed-forward layer."""

    norm_first: bool
    """Whether the norm stands before the projection (pre-norm) or after the residual."""

    input_major: bool = False
    """Whether weights are stored (in, out), as GPT-2 does, instead of (out, in)."""

    def with_attention(self, attend: Callable[..., Tensor]) -> BlockLayout:
        """Return the same layout with another way to call the attention."""
        return dataclasses.replace(self, attend=attend)

    def feed_in(self, block: nn.Module, stream: Tensor) -> Tensor:
        """Return the input x of the projection, shape (B, M, N)."""
        return self._call(block, self.norm, stream) if self.norm_first else stream

    def expand(self, block: nn.Module, x: Tensor) -> Tensor:
        """Return the projection p, shape (B, M, H), or (B, M, 2H) if gated."""
        parts = [self._call(block, path, x) for path in self.projections]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def activate(self, block: nn.Module, expanded: Tensor) -> Tensor:
        """Return the inner activation g, shape (B, M, H)."""
        if len(self.projections) == 1:
            return self._call(block, self.activation, expanded)
        gate, up = expanded.chunk(2, dim=-1)
        return self._call(block, self.activation, gate) * up

    def contract(self, block: nn.Module, inner: Tensor) -> Tensor:
        """Return the feed-forward output o, shape (B, M, N)."""
        return self._call(block, self.contraction, inner)

    def add(self, block: nn.Module, output: Tensor, residual: Tensor | float) -> Tensor:
        """Return the sum y of the feed-forward output and the residual, shape (B, M, N)."""
        dropped = output if self.dropout is None else self._call(block, self.dropout, output)
        return dropped + residual

    def finish(self, block: nn.Module, total: Tensor) -> Tensor:
        """Return the block's output, shape (B, M, N)."""
        return total if self.norm_first else self._call(block, self.norm, total)

    def _call(self, block: nn.Module, path: str, value: Tensor) -> Tensor:
        result: Tensor = attrgetter(path)(block)(value)
        return result

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a stored weight as (in, out)."""
        return weight if self.input_major else weight.T


class BiasOnly(nn.Module):
    """What is left of a linear layer whose weight was factored: its bias, under its stock name."""

    def __init__(self, linear: Any) -> None:
        super().__init__()
        self.bias = linear.bias


def add_biases(block: nn.Module, paths: tuple[str, ...], value: Tensor) -> Tensor:
    """Return a value (B, M, sum of widths) plus the biases of the layers at the paths, if any."""
    biases = [attrgetter(path)(block).bias for path in paths]
    if biases[0] is None:
        return value
    return value + (biases[0] if len(biases) == 1 else torch.cat(biases))
