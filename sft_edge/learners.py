"""Two things that learn from batches: the split model, and the whole one as a yardstick.

They know models and optimizers; they know no data set and no schedule.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from sft_common.config import OptimizerSpec
from sft_common.model.adamw import adamw, set_learning_rate
from sft_common.model.heads import Head, logits_of
from sft_common.model.partition import Net1
from sft_common.wire.packing import pack
from sft_edge.remote import CloudSession, remote_loss
from sft_edge.tasks.batches import Batch


class Learner(Protocol):
    """What the training loop drives."""

    def train_step(self, step: int, batch: Batch, learning_rate: float) -> float:
        """Learn from one batch; returns its mean loss before the update.

        If that is not finite nothing is updated; in a split model, also if its gradient is not.
        """

    def predict(self, batch: Batch) -> Tensor:
        """Return what the head says of one batch in evaluation mode (`Head.verdict`)."""


class SplitLearner:
    """Net1 here, net2 on the cloud (SFT, Algorithm 1).

    Args:
        net1: the edge half, with its numbers.
        session: the cloud half.
        head: what the cloud half ends in.
        optimizer: how net1 is trained; the cloud was told the same.
        device: where net1 runs.
    """

    def __init__(
        self,
        net1: Net1,
        session: CloudSession,
        head: Head,
        optimizer: OptimizerSpec,
        device: torch.device,
    ) -> None:
        self.net1 = net1.to(device)
        self._session, self._head = session, head
        self._optimizer = adamw(net1, optimizer)
        self._device = device

    def train_step(self, step: int, batch: Batch, learning_rate: float) -> float:
        """Run one step of both halves: one exchange, then both optimizers at the same rate."""
        self.net1.train()
        activation_TW = self._activation(batch)
        loss = remote_loss(
            activation_TW, self._session, step=step, lengths=batch.lengths, labels=batch.labels
        )
        if not math.isfinite(loss.item()):
            return loss.item()
        # Sent before the backward pass here, so that the cloud's update runs beside it.
        self._session.apply(step, learning_rate)
        _update(self._optimizer, loss, learning_rate)
        return loss.item()

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Return what the head says of one batch; no label leaves the edge but a next token."""
        self.net1.eval()
        labels = list(map(int, batch.labels)) if self._head.next_token else []
        return self._session.evaluate(self._activation(batch), batch.lengths, labels)

    @torch.no_grad()
    def what_follows(self, batch: Batch) -> Tensor:
        """Return the logits of what follows the last token of each example, shape (B, C)."""
        self.net1.eval()
        return self._session.evaluate(self._activation(batch), batch.lengths)

    def _activation(self, batch: Batch) -> Tensor:
        return pack(self.net1(_on(batch.inputs, self._device)), batch.mask)


class WholeLearner:
    """The stock model, unsplit, in this process.

    Args:
        model: takes the tokenizer's inputs.
        head: what it ends in.
        optimizer: the same as the split model's.
        device: where it runs.
    """

    def __init__(
        self, model: nn.Module, head: Head, optimizer: OptimizerSpec, device: torch.device
    ) -> None:
        self.model = model.to(device)
        self._optimizer = adamw(model, optimizer)
        self._head = head
        self._device = device

    def train_step(self, step: int, batch: Batch, learning_rate: float) -> float:
        """Run one ordinary step of fine-tuning."""
        self.model.train()
        labels = torch.tensor(batch.labels, device=self._device)
        labels = labels.float() if self._head.labels == "number" else labels
        loss = self._head.loss(self._logits(batch), labels, batch.mask.to(self._device))
        if math.isfinite(loss.item()):
            _update(self._optimizer, loss, learning_rate)
        return float(loss.item())

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Return what the head says of one batch."""
        self.model.eval()
        labels = torch.tensor(batch.labels) if self._head.next_token else None
        return self._head.verdict(self._logits(batch), batch.mask.to(self._device), labels)

    def _logits(self, batch: Batch) -> Tensor:
        return logits_of(self.model(**_on(batch.inputs, self._device)))


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> None:
    optimizer.zero_grad()
    loss.backward()
    set_learning_rate(optimizer, learning_rate)
    optimizer.step()


def _on(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}
