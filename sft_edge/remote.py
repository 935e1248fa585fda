"""The cloud half as the edge sees it: a session, and what can come of one.

It knows no transport and no model; tests inject a session that computes in memory.

Legend: B batch, M padded length, T real tokens, W width on the wire, C classes. Labels are flat, as
the head takes them (sft_common/model/heads.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from sft_edge.tasks.batches import Labels
from sft_edge.traffic import Traffic


class Rewound(Exception):
    """The cloud has gone back, and the edge must too, before it asks for anything else.

    Args:
        step: behind which both have a snapshot.
        stored: batches of examples that the cloud has, of a session whose edge is frozen.
    """

    def __init__(self, step: int, stored: int = 0) -> None:
        super().__init__(f"the cloud has gone back to step {step}")
        self.step, self.stored = step, stored


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
    """One open session with a cloud.

    Whatever asks or waits raises `Rewound` if the cloud has lost what the edge still has.
    """

    traffic: Traffic
    """What the session has moved so far."""

    def begin_step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Labels,
        *,
        exchange: int = 0,
        share: float = 1.0,
    ) -> None:
        """Ask for loss and gradient of a micro-batch; does not wait for them.

        Args:
            step: its number, from 1.
            activation_TW: without padding, shape (T, W).
            lengths: real tokens of each example, B entries.
            labels: what is to be learned.
            exchange: its place among the exchanges of the step, from 0.
            share: its share of what the loss of the step is the mean of.
        """

    def end_step(self) -> tuple[float, Tensor]:
        """Wait for the oldest micro-batch under way.

        Returns:
            Its mean loss times its share, and the gradient of that with respect to the activation,
            shape (T, W).
        """

    def begin_forward(
        self, step: int, activation_TW: Tensor, lengths: Sequence[int], *, exchange: int = 0
    ) -> None:
        """Ask for the logits of a micro-batch whose labels stay here; does not wait for them.

        Arguments as of `begin_step`.
        """

    def end_forward(self) -> Tensor:
        """Wait for the logits of the oldest exchange under way; returns (B, C) or (T, C)."""

    def begin_backward(
        self, step: int, gradient: Tensor, *, forward: int, tokens: int, exchange: int = 1
    ) -> None:
        """Ask for the gradient of a micro-batch; does not wait for it.

        Args:
            step: its number.
            gradient: of the loss with respect to the logits, of their shape.
            forward: place of its forward pass among the exchanges of the step.
            tokens: T.
            exchange: place of this among them.
        """

    def end_backward(self) -> Tensor:
        """Wait for the oldest exchange under way; returns the activation's gradient, (T, W)."""

    def answered(self) -> bool:
        """Return whether the next `end_...` need not wait."""

    def apply(self, step: int, learning_rate: float, *, exchanges: int = 1) -> None:
        """Have the cloud step its optimizer with the gradients of `step`; does not wait."""

    def begin_evaluation(
        self,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Sequence[int] = (),
        *,
        every_token: bool = False,
    ) -> None:
        """Ask what the head says of a batch; does not wait.

        Args:
            activation_TW: as of `begin_step`.
            lengths: as of `begin_step`.
            labels: for causal-lm alone.
            every_token: for causal-lm alone: the logits of every token are wanted.
        """

    def end_evaluation(self) -> Tensor:
        """Wait for the oldest evaluation under way; returns `Head.verdict`, or `Head.rows`."""

    def close(self) -> Closing:
        """End the session."""


Outcome = Callable[[], tuple[float, Tensor]]
"""Waits for a loss and its gradient with respect to an activation, (T, W)."""
