"""How a batch gets its loss and gradient: labels travel with the activations, or stay here.

It knows sessions and heads; it knows no model, no optimizer and no order of steps.

Legend: B batch, T real tokens, W width on the wire, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sft_common.model.heads import Head
from sft_common.wire.codec import is_finite
from sft_common.wire.packing import unpack
from sft_edge.remote import CloudSession, Outcome
from sft_edge.tasks.batches import Batch


class Part(NamedTuple):
    """A micro-batch of a step."""

    batch: Batch
    share: float
    """Its share of what the loss of the step is the mean of."""

    activation_TW: Tensor
    """With its graph."""


class UnderWay(NamedTuple):
    """A micro-batch whose gradient will come; to be asked for in order."""

    activation_TW: Tensor
    """With its graph."""

    outcome: Outcome
    """Waits for its mean loss times its share, and the gradient of that."""


class Exchanges(Protocol):
    """A way to the gradient."""

    each: int
    """Exchanges of a micro-batch."""

    def begin(
        self, step: int, parts: Iterable[Part], meanwhile: Callable[[], None]
    ) -> list[UnderWay]:
        """Send micro-batches as they are made.

        Args:
            step: their number.
            parts: made one by one, while the one before is on its way.
            meanwhile: what to do while an answer is waited for.

        Returns:
            What is under way; none if a number is not finite: the step comes to nothing.
        """


class LabelsSent:
    """Labels travel with the activations; the cloud computes the loss: one exchange.

    Args:
        session: the cloud half.
    """

    each = 1

    def __init__(self, session: CloudSession) -> None:
        self._session = session

    def begin(
        self, step: int, parts: Iterable[Part], meanwhile: Callable[[], None]
    ) -> list[UnderWay]:
        """Send micro-batches as they are made; see `Exchanges`."""
        under_way = []
        for place, (batch, share, activation_TW) in enumerate(parts):
            if not is_finite(activation_TW.detach()):
                return []
            self._session.begin_step(
                step,
                activation_TW.detach(),
                batch.lengths,
                batch.labels,
                exchange=place,
                share=share,
            )
            under_way.append(UnderWay(activation_TW, self._session.end_step))
        return under_way


class LabelsKept:
    """Labels stay here: logits come down, their gradient goes up; two exchanges.

    The gradient of the logits still tells a cloud that looks what the labels were.

    Args:
        session: the cloud half.
        head: what it ends in.
    """

    each = 2

    def __init__(self, session: CloudSession, head: Head) -> None:
        self._session, self._head = session, head

    def begin(
        self, step: int, parts: Iterable[Part], meanwhile: Callable[[], None]
    ) -> list[UnderWay]:
        """Send micro-batches as they are made, then the gradients of their logits."""
        asked = []
        for place, part in enumerate(parts):
            activation_TW = part.activation_TW.detach()
            if not is_finite(activation_TW):
                return []
            self._session.begin_forward(step, activation_TW, part.batch.lengths, exchange=place)
            asked.append(part)
        under_way = []
        for place, part in enumerate(asked):
            meanwhile()
            loss, gradient = self._loss(part, self._session.end_forward())
            if not (math.isfinite(loss) and is_finite(gradient)):
                return []
            self._session.begin_backward(
                step,
                gradient,
                forward=place,
                tokens=len(part.activation_TW),
                exchange=len(asked) + place,
            )
            under_way.append(UnderWay(part.activation_TW, partial(self._outcome, loss)))
        return under_way

    def _outcome(self, loss: float) -> tuple[float, Tensor]:
        return loss, self._session.end_backward()

    def _loss(self, part: Part, rows: Tensor) -> tuple[float, Tensor]:
        """Return the mean loss times the share, and its gradient with respect to the logits.

        Args:
            part: the micro-batch.
            rows: its logits, (B, C) or (T, C).
        """
        batch, head = part.batch, self._head
        labels = torch.tensor(batch.labels)
        labels = labels.float() if head.labels == "number" else labels
        rows.requires_grad_()
        logits = unpack(rows, batch.lengths) if head.per_token else rows
        loss = part.share * head.loss(logits, labels, batch.mask)
        loss.backward()
        assert rows.grad is not None
        return loss.item(), rows.grad
