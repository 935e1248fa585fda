"""Logits and losses that are computed elsewhere, as autograd sees them. It knows no transport.

Legend: B batch, T real tokens, W width on the wire, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor


class ForwardElsewhere(Protocol):
    """Where logits are computed; what is computed waits for its backward, until the next step."""

    def forward(self, activation_TW: Tensor, lengths: list[int]) -> tuple[Tensor, int, int]:
        """Return logits without padding, (B, C) or (T, C), their step and their place in it."""

    def backward(self, gradient: Tensor, step: int, forward: int, tokens: int) -> Tensor:
        """Return the gradient of the activation, (T, W), from that of the logits."""


class Elsewhere(ForwardElsewhere, Protocol):
    """Where losses are computed too."""

    def loss(
        self, activation_TW: Tensor, lengths: list[int], labels: list[float]
    ) -> tuple[float, Tensor, int, int]:
        """Return a loss, its gradient, (T, W), their step and their place in it."""

    def count(self, factor: float, step: int, exchange: int) -> None:
        """Have a loss count, times a factor."""


def remote_logits(
    activation_TW: Tensor, anchor: Tensor | None, there: ForwardElsewhere, lengths: list[int]
) -> Tensor:
    """Return the logits of net2, (B, C) or (T, C), or a body's rows; their backward is net2's.

    Args:
        activation_TW: with its graph, if net1 trains.
        anchor: needs a gradient, so that net2 gets its own though nothing of net1 trains; None: the
            activation does.
        there: computes them.
        lengths: of the examples.
    """
    apply: Any = _RemoteLogits.apply
    rows: Tensor = apply(activation_TW, anchor, there, lengths)
    return rows


def remote_loss(
    activation_TW: Tensor,
    anchor: Tensor,
    there: Elsewhere,
    lengths: list[int],
    labels: list[float],
) -> Tensor:
    """Return the loss of net2, a scalar; its backward says what it counts. Arguments as above."""
    loss, gradient_TW, step, place = there.loss(activation_TW.detach(), lengths, labels)
    count = partial(there.count, step=step, exchange=place)
    return received_loss(activation_TW, loss, gradient_TW, anchor=anchor, count=count).float()


def received_loss(
    activation_TW: Tensor,
    loss: float,
    gradient_TW: Tensor,
    *,
    anchor: Tensor | None = None,
    count: Callable[[float], None] | None = None,
) -> Tensor:
    """Return a loss that was computed elsewhere; its `backward` reaches net1.

    The cut-layer gradient came with it (SFT, Algorithm 1, edge side).

    Args:
        activation_TW: what was sent, with its graph, shape (T, W).
        loss: what came of it.
        gradient_TW: of that with respect to the activation.
        anchor: as above; None: net1 trains.
        count: told, before the gradient goes on, what it is multiplied with.

    Returns:
        A float64 scalar on the CPU, since not every device has float64; NaN if a number of the
        gradient is not finite.
    """
    loss = loss if gradient_TW.isfinite().all() else math.nan
    apply: Any = _ReceivedLoss.apply
    found: Tensor = apply(activation_TW, anchor, loss, gradient_TW, count)
    return found


class _RemoteLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        activation_TW: Tensor,
        anchor: Tensor | None,
        half: ForwardElsewhere,
        lengths: list[int],
    ) -> Tensor:
        rows, ctx.step, ctx.place = half.forward(activation_TW, lengths)
        ctx.half, ctx.tokens, ctx.like = half, len(activation_TW), activation_TW
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient_TW = ctx.half.backward(gradients[0], ctx.step, ctx.place, ctx.tokens)
        return gradient_TW.to(ctx.like), None, None, None


class _ReceivedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        activation_TW: Tensor,
        anchor: Tensor | None,
        loss: float,
        gradient_TW: Tensor,
        count: Callable[[float], None] | None,
    ) -> Tensor:
        ctx.count, ctx.dtype = count, activation_TW.dtype
        ctx.save_for_backward(gradient_TW.to(activation_TW.device))
        return torch.tensor(loss, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_TW,) = ctx.saved_tensors
        factor = gradients[0].item()
        if ctx.count is not None:
            ctx.count(factor)
        return (gradient_TW * factor).to(ctx.dtype), None, None, None, None
