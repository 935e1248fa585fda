"""The cloud half as the edge sees it: a session, and a loss that looks like any other module's.

It knows no transport; tests inject a session that computes in memory.

Legend: B batch, M padded length, T real tokens, W width on the wire, C classes. Labels are flat, as
the head takes them (sft_common/model/heads.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sft_edge.tasks.batches import Labels
from sft_edge.traffic import Traffic


class Closing(NamedTuple):
    """How a session ended."""

    steps: int
    """Steps that the cloud applied."""

    saved: bool
    """Whether the cloud kept the trained net2."""


class Stepped(NamedTuple):
    """A step of a training that the cloud runs alone."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


class Judged(NamedTuple):
    """The cloud's verdict on one batch of a validation part; batches come in order."""

    step: int
    part: int
    """From 1."""

    verdict: Tensor


class Finished(NamedTuple):
    """The end of a training that the cloud ran alone."""

    steps: int
    saved: bool
    cloud_seconds: float


TrainingEvent = Stepped | Judged | Finished


class CloudSession(Protocol):
    """One open session with a cloud."""

    traffic: Traffic
    """What the session has moved so far."""

    def step(
        self, step: int, activation_TW: Tensor, lengths: Sequence[int], labels: Labels
    ) -> tuple[float, Tensor]:
        """Return the mean loss and its gradient with respect to the activation, (T, W)."""

    def apply(self, step: int, learning_rate: float) -> None:
        """Have the cloud step its optimizer with the gradients of `step`; does not wait."""

    def evaluate(
        self, activation_TW: Tensor, lengths: Sequence[int], labels: Sequence[int] = ()
    ) -> Tensor:
        """Return what the head says of a batch (`Head.verdict`); `labels` for causal-lm alone."""

    def close(self) -> Closing:
        """End the session."""


class _RemoteLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        activation_TW: Tensor,
        session: CloudSession,
        step: int,
        lengths: Sequence[int],
        labels: Labels,
    ) -> Tensor:
        loss, gradient_TW = session.step(step, activation_TW.detach(), lengths, labels)
        if not gradient_TW.isfinite().all():
            loss = math.nan
        ctx.save_for_backward(gradient_TW.to(activation_TW.device))
        return torch.tensor(loss, dtype=torch.float64)  # not every device has float64

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_TW,) = ctx.saved_tensors
        return gradient_TW * gradients[0].item(), None, None, None, None


def remote_loss(
    activation_TW: Tensor,
    session: CloudSession,
    *,
    step: int,
    lengths: Sequence[int],
    labels: Labels,
) -> Tensor:
    """Return the loss of a batch, computed on the cloud; its `backward` reaches net1.

    One exchange fetches both the loss and the cut-layer gradient (SFT, Algorithm 1, edge side).

    Args:
        activation_TW: activation of the cut layer without padding, shape (T, W).
        session: computes the loss.
        step: number of the training step, from 1.
        lengths: real tokens of each example, B entries.
        labels: what is to be learned.

    Returns:
        The mean loss, a float64 scalar on the CPU; NaN if a number of its gradient is not finite.
    """
    apply: Any = _RemoteLoss.apply
    loss: Tensor = apply(activation_TW, session, step, lengths, labels)
    return loss
