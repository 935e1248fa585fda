"""Two things that learn from batches: the split model, and the whole one as a yardstick.

They know models and optimizers; they know no data set and no schedule.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from sft_common.config import OptimizerSpec
from sft_common.errors import DataError
from sft_common.model.adamw import adamw, moments_of, set_learning_rate, set_moments
from sft_common.model.heads import Head, logits_of
from sft_common.model.partition import Net1
from sft_common.wire.packing import pack
from sft_edge.elsewhere import received_loss
from sft_edge.exchanges import Exchanges, LabelsKept, LabelsSent, Part
from sft_edge.late_table import LateTable
from sft_edge.pacing import Pacing
from sft_edge.remote import CloudSession
from sft_edge.tasks.batches import Batch

AHEAD = 2
"""Batches of an evaluation that are sent before the verdict on the oldest is waited for."""


class Learner(Protocol):
    """What the training loop drives."""

    @property
    def micro_batches(self) -> int:
        """Into how many parts the next batch is to be cut."""

    def train_step(self, step: int, batches: Sequence[Batch], learning_rate: float) -> float:
        """Learn from the micro-batches of one batch; returns its mean loss before the update.

        If that is not finite nothing is updated; in a split model, also if its gradient is not.
        """

    def predictions(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with what the head says of it in evaluation mode (`Head.verdict`)."""


class SplitLearner:
    """Net1 here, net2 on the cloud (SFT, Algorithm 1).

    Args:
        net1: the edge half, with its numbers.
        session: the cloud half.
        head: what the cloud half ends in.
        optimizer: how net1 is trained; the cloud was told the same.
        device: where net1 runs.
        pacing: into how many parts a batch is cut; None: one.
        keeps_labels: whether labels stay here, at the price of a second exchange.
    """

    def __init__(
        self,
        net1: Net1,
        session: CloudSession,
        head: Head,
        optimizer: OptimizerSpec,
        device: torch.device,
        *,
        pacing: Pacing | None = None,
        keeps_labels: bool = False,
    ) -> None:
        self._pacing = pacing or Pacing(1)
        self.net1 = net1.to(device)
        self._session, self._head = session, head
        self._keeps_labels = keeps_labels
        self._exchanges: Exchanges = (
            LabelsKept(session, head) if keeps_labels else LabelsSent(session)
        )
        self._optimizer = adamw(net1, optimizer)
        able, late = device.type in ("cpu", "cuda"), device.type == "cpu"  # docs/decisions/0010
        self._table = LateTable(net1.words if able else None, self._optimizer, late=late)
        self._device = device

    @property
    def micro_batches(self) -> int:
        """Into how many parts the next batch is to be cut."""
        return self._pacing.count

    def train_step(self, step: int, batches: Sequence[Batch], learning_rate: float) -> float:
        """Run one step of both halves: all forward, then backward as gradients come.

        While one micro-batch is on the way and on the cloud, the next is computed here; while none
        is left, what the step before has put off: the words' table lacks that until `settle`, or
        until it is looked up.
        """
        begin = time.perf_counter()
        self.net1.train()
        self._optimizer.zero_grad()
        under_way = self._exchanges.begin(step, self._parts(step, batches), self._meanwhile)
        total = 0.0 if under_way else math.nan
        for place, (activation_TW, outcome) in enumerate(under_way, start=1):
            self._meanwhile()
            loss = received_loss(activation_TW, *outcome())
            total += loss.item()
            if not math.isfinite(total):
                break
            if place == len(under_way):
                # Before the last backward pass here, so that the cloud's update runs beside it.
                exchanges = place * self._exchanges.each
                self._session.apply(step, learning_rate, exchanges=exchanges)
            loss.backward()
        self.settle()
        if math.isfinite(total):
            set_learning_rate(self._optimizer, learning_rate)
            self._table.take()
            self._optimizer.step()
        tokens = sum(sum(batch.lengths) for batch in batches)
        self._pacing.stepped(time.perf_counter() - begin, tokens)
        return total

    def settle(self) -> None:
        """Finish the steps that were taken: net1 then has all their updates."""
        self._table.catch_up()

    def close(self) -> None:
        """Let go of net1; what was put off and not settled is given up. Safe to repeat."""
        self._table.close()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return all that makes the next steps what they will be, by group and stock name.

        The tensors are the learner's own, not copies.
        """
        self.settle()
        randomness = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            randomness["cuda"] = torch.cuda.get_rng_state(self._device)
        return {
            "weights": dict(self.net1.skeleton.named_parameters()),
            "moments": moments_of(self._optimizer, self.net1.skeleton),
            "randomness": randomness,
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what `state` returned once; copies it."""
        self.settle()
        for name, parameter in self.net1.skeleton.named_parameters():
            parameter.copy_(state["weights"][name])
        set_moments(self._optimizer, self.net1.skeleton, state.get("moments", {}))
        torch.set_rng_state(state["randomness"]["cpu"])
        if self._device.type == "cuda" and "cuda" in state["randomness"]:
            torch.cuda.set_rng_state(state["randomness"]["cuda"], self._device)

    def predictions(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with its verdict; no label leaves the edge but a next token.

        Where labels are kept that does not either: all logits come down instead.
        """
        if not (self._keeps_labels and self._head.next_token):
            yield from self._ask(batches, labelled=self._head.next_token)
            return
        for batch, rows_TC in self._ask(batches, every_token=True):
            yield batch, self._head.token_losses(rows_TC, torch.tensor(batch.labels))

    def what_follows(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with the logits of what follows each last token, shape (B, C)."""
        return self._ask(batches)

    def _parts(self, step: int, batches: Sequence[Batch]) -> Iterator[Part]:
        """Yield the micro-batches that have something to learn, each computed when it is wanted."""
        weights = [self._head.weight(batch.labels) for batch in batches]
        if not any(weights):
            raise DataError(f"no token of the batch of step {step} has a label")
        for batch, weight in zip(batches, weights, strict=True):
            if weight:
                yield Part(batch, weight / sum(weights), self._activation(batch))

    def _meanwhile(self) -> None:
        """Do what was put off, until the answer that is waited for is there."""
        self._table.catch_up(enough=self._session.answered)

    @torch.no_grad()
    def _ask(
        self, batches: Iterable[Batch], *, labelled: bool = False, every_token: bool = False
    ) -> Iterator[tuple[Batch, Tensor]]:
        self.net1.eval()
        under_way: deque[Batch] = deque()
        for batch in batches:
            labels = list(map(int, batch.labels)) if labelled else []
            self._session.begin_evaluation(
                self._activation(batch), batch.lengths, labels, every_token=every_token
            )
            under_way.append(batch)
            if len(under_way) > AHEAD:
                yield under_way.popleft(), self._session.end_evaluation()
        while under_way:
            yield under_way.popleft(), self._session.end_evaluation()

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

    @property
    def micro_batches(self) -> int:
        """Return 1: nothing travels."""
        return 1

    def __init__(
        self, model: nn.Module, head: Head, optimizer: OptimizerSpec, device: torch.device
    ) -> None:
        self.model = model.to(device)
        self._optimizer = adamw(model, optimizer)
        self._head = head
        self._device = device

    def train_step(self, step: int, batches: Sequence[Batch], learning_rate: float) -> float:
        """Run one ordinary step of fine-tuning."""
        (batch,) = batches
        self.model.train()
        self._optimizer.zero_grad()
        labels = torch.tensor(batch.labels, device=self._device)
        labels = labels.float() if self._head.labels == "number" else labels
        loss = self._head.loss(self._logits(batch), labels, batch.mask.to(self._device))
        if math.isfinite(loss.item()):
            loss.backward()
            set_learning_rate(self._optimizer, learning_rate)
            self._optimizer.step()
        return float(loss.item())

    @torch.no_grad()
    def predictions(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with what the head says of it."""
        self.model.eval()
        for batch in batches:
            labels = torch.tensor(batch.labels) if self._head.next_token else None
            mask_BM = batch.mask.to(self._device)
            yield batch, self._head.verdict(self._logits(batch), mask_BM, labels)

    def _logits(self, batch: Batch) -> Tensor:
        return logits_of(self.model(**_on(batch.inputs, self._device)))


def _on(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}
