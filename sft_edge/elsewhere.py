"""Logits and losses that are computed elsewhere, as autograd sees them. It knows no transport.

Legend: B batch, T real tokens, W width on the wire, C classes.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Elsewhere(Protocol):
    """Where they are computed; what is computed waits for its backward, until the next step."""

    def forward(self, activation_TW: Tensor, lengths: list[int]) -> tuple[Tensor, int, int]:
        """Return logits without padding, (B, C) or (T, C), their step and their place in it."""

    def backward(self, gradient: Tensor, step: int, forward: int, tokens: int) -> Tensor:
        """Return the gradient of the activation, (T, W), from that of the logits."""

    def loss(
        self, activation_TW: Tensor, lengths: list[int], labels: list[float]
    ) -> tuple[float, Tensor, int, int]:
        """Return a loss, its gradient, (T, W), their step and their place in it."""

    def count(self, factor: float, step: int, exchange: int) -> None:
        """Have a loss count, times a factor."""


def remote_logits(
    activation_TW: Tensor, anchor: Tensor, there: Elsewhere, lengths: list[int]
) -> Tensor:
    """Return the logits of net2, (B, C) or (T, C); their backward is net2's.

    Args:
        activation_TW: with its graph, if net1 trains.
        anchor: needs a gradient, so that net2 gets its own though nothing of net1 trains.
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
    apply: Any = _RemoteLoss.apply
    loss: Tensor = apply(activation_TW, anchor, there, lengths, labels)
    return loss


class _RemoteLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, activation_TW: Tensor, anchor: Tensor, half: Elsewhere, lengths: list[int]
    ) -> Tensor:
        rows, ctx.step, ctx.place = half.forward(activation_TW, lengths)
        ctx.half, ctx.tokens, ctx.like = half, len(activation_TW), activation_TW
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient_TW = ctx.half.backward(gradients[0], ctx.step, ctx.place, ctx.tokens)
        return gradient_TW.to(ctx.like), None, None, None


class _RemoteLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        activation_TW: Tensor,
        anchor: Tensor,
        half: Elsewhere,
        lengths: list[int],
        labels: list[float],
    ) -> Tensor:
        loss, gradient_TW, ctx.step, ctx.place = half.loss(activation_TW, lengths, labels)
        ctx.half, ctx.dtype = half, activation_TW.dtype
        ctx.save_for_backward(gradient_TW.to(activation_TW.device))
        return torch.tensor(loss, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_TW,) = ctx.saved_tensors
        factor = gradients[0].item()
        ctx.half.count(factor, ctx.step, ctx.place)
        return (gradient_TW * factor).to(ctx.dtype), None, None, None, None
