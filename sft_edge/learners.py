"""Two things that learn from batches: the split model, and the whole one as a yardstick.

They know models and optimizers; they know no data set and no schedule.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from sft_common.config import OptimizerSpec
from sft_common.model.adamw import adamw, set_learning_rate
from sft_common.model.partition import Net1
from sft_common.wire.packing import pack
from sft_edge.remote import CloudSession, remote_loss
from sft_edge.tasks.batches import Batch


class Learner(Protocol):
    """What the training loop drives."""

    def train_step(self, step: int, batch: Batch, learning_rate: float) -> float:
        """Learn from one batch; returns its mean loss before the update."""

    def predict(self, batch: Batch) -> Tensor:
        """Return the logits of one batch in evaluation mode, shape (B, C)."""


class SplitLearner:
    """Net1 here, net2 on the cloud (SFT, Algorithm 1).

    Args:
        net1: the edge half, with its numbers.
        session: the cloud half.
        optimizer: how net1 is trained; the cloud was told the same.
        device: where net1 runs.
    """

    def __init__(
        self, net1: Net1, session: CloudSession, optimizer: OptimizerSpec, device: torch.device
    ) -> None:
        self.net1 = net1.to(device)
        self._session = session
        self._optimizer = adamw(net1, optimizer)
        self._device = device

    def train_step(self, step: int, batch: Batch, learning_rate: float) -> float:
        """Run one step of both halves: one exchange, then both optimizers at the same rate."""
        self.net1.train()
        activation_TW = self._activation(batch)
        loss = remote_loss(
            activation_TW, self._session, step=step, lengths=batch.lengths, labels=batch.labels
        )
        # Sent before the backward pass here, so that the cloud's update runs beside it.
        self._session.apply(step, learning_rate)
        _update(self._optimizer, loss, learning_rate)
        return loss.item()

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Return the logits of one batch, shape (B, C); no label leaves the edge."""
        self.net1.eval()
        return self._session.evaluate(self._activation(batch), batch.lengths)

    def _activation(self, batch: Batch) -> Tensor:
        return pack(self.net1(_on(batch.inputs, self._device)), batch.lengths)


class WholeLearner:
    """The stock classifier, unsplit, in this process.

    Args:
        model: takes the tokenizer's inputs and gives an output with `logits`.
        optimizer: the same as the split model's.
        device: where it runs.
    """

    def __init__(self, model: nn.Module, optimizer: OptimizerSpec, device: torch.device) -> None:
        self.model = model.to(device)
        self._optimizer = adamw(model, optimizer)
        self._loss = nn.CrossEntropyLoss()
        self._device = device

    def train_step(self, step: int, batch: Batch, learning_rate: float) -> float:
        """Run one ordinary step of fine-tuning."""
        self.model.train()
        labels_B = torch.tensor(batch.labels, device=self._device)
        loss = self._loss(self.model(**_on(batch.inputs, self._device)).logits, labels_B)
        _update(self._optimizer, loss, learning_rate)
        return float(loss.item())

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Return the logits of one batch, shape (B, C)."""
        self.model.eval()
        logits: Tensor = self.model(**_on(batch.inputs, self._device)).logits
        return logits


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> None:
    optimizer.zero_grad()
    loss.backward()
    set_learning_rate(optimizer, learning_rate)
    optimizer.step()


def _on(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}
