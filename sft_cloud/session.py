"""One edge's session: which request may come now, and what the engine does for it.

It checks the order of requests, keeps the replies that may be asked for again, and has bounds.py
check sizes. It knows no gRPC, no messages.

Legend: B batch, T real tokens, W width on the wire, C classes. Shapes of labels and logits are
those of the head (sft_common/model/heads.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from sft_cloud.bounds import Bounds, Labels
from sft_cloud.engine import Engine
from sft_common.config import LARGEST, SessionSpec
from sft_common.errors import ProtocolError
from sft_common.model.heads import HEAD_TABLE
from sft_common.position import Position
from sft_common.snapshots import Snapshot
from sft_common.wire.packing import mask_of, pack, unpack

Reply = tuple[bytes, bytes | memoryview]
"""What was answered: a message, and the numbers of its tensor."""

MAX_MICRO_BATCHES = 1024
"""Of a step; their replies are all kept until it is applied."""

SHARE_ERROR = 1e-6
"""How far from 1 the shares of a step may add up, each of them rounded."""


class Session:
    """State machine of one session: step k, apply k, step k + 1, ...; evaluate in between.

    A step comes whole or in micro-batches, whose shares of its loss add up to 1.

    Args:
        session_id: its name, letters and digits.
        spec: what the edge opened it with.
        bounds: what a batch of it may be.
        engine: net2 at work.
    """

    def __init__(
        self,
        session_id: str,
        spec: SessionSpec,
        bounds: Bounds,
        engine: Engine,
    ) -> None:
        self.session_id = session_id
        self.spec = spec
        self.bounds = bounds
        self.applied = 0
        self._shares = 0.0
        self._replies: list[Reply] = []
        self._micro_batches = 0
        self._engine = engine
        self._head = HEAD_TABLE[spec.head]
        self.transfers = engine.transfers
        self.rounding = torch.Generator(engine.device)
        self.rounding.manual_seed(spec.seed ^ zlib.crc32(b"rounding"))

    @property
    def position(self) -> Position:
        """How far it has come."""
        return Position(self.applied, self._micro_batches)

    def reply_to(self, step: int, micro_batch: int) -> Reply | None:
        """Return what a micro-batch was answered, if it has been there before.

        It is not computed again: its gradient would count twice.

        Raises:
            ProtocolError: it is neither one of those nor the next one.
        """
        if self.has_answered(step, micro_batch):
            return self._replies[micro_batch]
        self._expect_step(step, micro_batch)
        return None

    def has_answered(self, step: int, micro_batch: int) -> bool:
        """Return whether the reply to a micro-batch is kept."""
        return step == self.applied + 1 and micro_batch < len(self._replies)

    @property
    def memory_bytes(self) -> int:
        """What it takes while it is in memory, without the activations of a step."""
        return self._engine.memory_bytes + self.reply_bytes

    @property
    def reply_bytes(self) -> int:
        """What the replies take that are kept."""
        return sum(len(message) + len(numbers) for message, numbers in self._replies)

    def remember(self, reply: Reply) -> None:
        """Keep the reply to the last micro-batch until the step is applied."""
        self._replies.append(reply)

    def step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Labels,
        *,
        micro_batch: int = 0,
        share: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Run forward and backward of training step `step`, or of a micro-batch of it.

        Args:
            step: its number, from 1.
            activation_TW: without padding, shape (T, W).
            lengths: real tokens of each example, B entries.
            labels: what is to be learned.
            micro_batch: its number in the step, from 0.
            share: its share of what the loss of the step is the mean of.

        Returns:
            The mean loss times the share, a scalar, and its gradient with respect to the
            activation, (T, W); both on the device, which may not have computed them yet.

        Raises:
            ProtocolError: a step or micro-batch out of order, labels or a share that do not fit.
        """
        self._expect_step(step, micro_batch)
        if micro_batch >= MAX_MICRO_BATCHES:
            raise ProtocolError(
                f"step {step} has more than {MAX_MICRO_BATCHES} micro-batches; choose fewer"
            )
        if not 0 < share <= 1:
            raise ProtocolError(f"micro-batch {micro_batch} has share {share}; over 0 up to 1 fit")
        labels_flat = self.bounds.checked_labels(labels, lengths)
        mask_BM = mask_of(lengths, max(lengths))
        activation_BMW = unpack(activation_TW, lengths)
        loss, gradient_BMW = self._engine.step(activation_BMW, mask_BM, labels_flat, share)
        self._micro_batches += 1
        self._shares += share
        return loss, pack(gradient_BMW, mask_BM)

    def apply(self, step: int, learning_rate: float, *, micro_batches: int = 1) -> None:
        """Step the optimizer with the gradients of step `step`; done twice, it is done once.

        Args:
            step: its number.
            learning_rate: of this optimizer step.
            micro_batches: how many the step had.

        Raises:
            ProtocolError: that step does not wait for it, or not all of it has come, or the rate
                is out of its range.
        """
        if self.has_applied(step):
            return
        if step != self.applied + 1 or not self._micro_batches:
            waiting = f"step {self.applied + 1} waits" if self._micro_batches else "no step waits"
            raise ProtocolError(f"apply names step {step}, but {waiting} for it")
        if micro_batches != self._micro_batches or abs(self._shares - 1) > SHARE_ERROR:
            raise ProtocolError(
                f"apply of step {step} is for {micro_batches} micro-batches, but "
                f"{self._micro_batches} came, with {self._shares:g} of the loss"
            )
        if not 0 <= learning_rate <= LARGEST:
            raise ProtocolError(
                f"apply of step {step} has learning rate {learning_rate}; 0 to {LARGEST:g} fit"
            )
        self._engine.apply(learning_rate)
        self.applied = step
        self._micro_batches, self._shares = 0, 0.0
        self._replies.clear()

    def has_applied(self, step: int) -> bool:
        """Return whether that step was applied last, though micro-batches may have come since."""
        return step == self.applied > 0

    def evaluate(
        self, activation_TW: Tensor, lengths: Sequence[int], labels: Sequence[int] = ()
    ) -> Tensor:
        """Return what the head says of a batch; `labels` are for causal-lm alone.

        Raises:
            ProtocolError: a step waits for its apply, or labels that do not fit.
        """
        if self._micro_batches:
            raise ProtocolError(f"evaluate came before apply of step {self.applied + 1}")
        if labels and not self._head.next_token:
            raise ProtocolError(f"evaluate takes no labels with the head {self.spec.head}")
        known = self.bounds.checked_labels(labels, lengths) if labels else None
        mask_BM = mask_of(lengths, max(lengths))
        return self._engine.evaluate(unpack(activation_TW, lengths), mask_BM, known)

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters of net2 on the CPU, by their stock names."""
        return self._engine.weights()

    def snapshot(self) -> Snapshot:
        """Return all that it is; its tensors are shared, and change with the next step or apply."""
        facts = {
            "applied": self.applied,
            "micro_batches": self._micro_batches,
            "shares": self._shares,
        }
        replies = {
            f"{number}:{part}": torch.frombuffer(bytearray(data), dtype=torch.uint8)
            for number, reply in enumerate(self._replies)
            for part, data in zip(("message", "numbers"), reply, strict=True)
            if len(data)
        }
        rounding = {"rounding": self.rounding.get_state()}
        return Snapshot(facts, {**self._engine.state(), "replies": replies, "draws": rounding})

    def restore(self, snapshot: Snapshot) -> None:
        """Become what a session of the same spec was; takes copies.

        Raises:
            KeyError: it is the snapshot of something else.
        """
        facts, tensors = snapshot.facts, snapshot.tensors
        self._engine.restore(tensors)
        self.rounding.set_state(tensors["draws"]["rounding"].clone())
        self.applied = int(facts["applied"])
        self._micro_batches, self._shares = int(facts["micro_batches"]), float(facts["shares"])
        kept = tensors.get("replies", {})
        self._replies = [
            (_bytes_of(kept.get(f"{n}:message")), _bytes_of(kept.get(f"{n}:numbers")))
            for n in range(self._micro_batches)
        ]

    def _expect_step(self, step: int, micro_batch: int) -> None:
        if micro_batch and (step, micro_batch) != (self.applied + 1, self._micro_batches):
            raise ProtocolError(
                f"micro-batch {micro_batch} of step {step} came, micro-batch "
                f"{self._micro_batches} of step {self.applied + 1} was expected"
            )
        if not micro_batch and self._micro_batches:
            raise ProtocolError(f"step {step} came before apply of step {self.applied + 1}")
        if not micro_batch and step != self.applied + 1:
            raise ProtocolError(f"step {step} came, step {self.applied + 1} was expected")


def _bytes_of(tensor: Tensor | None) -> bytes:
    return b"" if tensor is None else tensor.numpy().tobytes()
