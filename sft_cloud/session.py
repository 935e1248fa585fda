"""One edge's session: which request may come now, and what the engine does for it.

It checks order, sizes and ranges before the engine sees a number. It knows no gRPC, no messages.

Legend: B batch, T real tokens, W width on the wire, C classes. Shapes of labels and logits are
those of the head (sft_common/model/heads.py).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from sft_cloud.engine import Engine
from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import LimitError, ProtocolError
from sft_common.model.heads import HEAD_TABLE, IGNORED
from sft_common.wire.packing import mask_of, pack, unpack

SHARE_ERROR = 1e-6
"""How far from 1 the shares of a step may add up, each of them rounded."""

Labels = Sequence[int] | Sequence[float]
"""Of a batch, flat; floats for a regression."""


def step_bytes(
    shape: ModelShape, split: SplitSpec, examples: int, longest: int, classes: int = 0
) -> int:
    """Return about how much memory a training step of net2 takes for its activations.

    In float32, for each token and block: the family's rows of attention scores (BERT: scores,
    softmax, dropout) of M x heads, 12 rows of the hidden and 3 of the feed-forward width, which a
    layer of the decoder is taken to need as well; and three rows of logits. Measured: never more
    than 1.5 times this, and a step may take half the memory.

    Args:
        shape: sizes of the model.
        split: the cut.
        examples: B.
        longest: M.
        classes: C of a head that makes logits for every token, which many do even if they then
            choose one of them; 0 for the others.
    """
    blocks = shape.blocks - split.split_layer + 1
    scores = blocks * shape.score_rows * longest * shape.heads
    rows = (blocks + split.decoder_layers) * (12 * shape.hidden + 3 * shape.feed_forward)
    return examples * longest * 4 * (scores + rows + 3 * classes)


class Session:
    """State machine of one session: step k, apply k, step k + 1, ...; evaluate in between.

    A step comes whole or in micro-batches, whose shares of its loss add up to 1.

    Args:
        session_id: its name, letters and digits.
        spec: what the edge opened it with.
        shape: sizes of the model.
        engine: net2 at work.
        memory_bytes: what the activations of one step may take.
        logits_per_token: whether the head makes logits for every token, if only to choose one.
    """

    def __init__(
        self,
        session_id: str,
        spec: SessionSpec,
        shape: ModelShape,
        engine: Engine,
        *,
        memory_bytes: int,
        logits_per_token: bool = False,
    ) -> None:
        self.session_id = session_id
        self.spec = spec
        self.width = spec.split.wire_width(shape)
        self.applied = 0
        self._shape = shape
        self._memory_bytes = memory_bytes
        self._pending: int | None = None
        self._micro_batches, self._shares = 0, 0.0
        self._engine = engine
        self._head = HEAD_TABLE[spec.head]
        self._logits_per_token = logits_per_token or self._head.per_token
        self.rounding = torch.Generator(engine.device)
        self.rounding.manual_seed(spec.seed ^ zlib.crc32(b"rounding"))

    def step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Labels,
        *,
        micro_batch: int = 0,
        share: float = 1.0,
    ) -> tuple[float, Tensor]:
        """Run forward and backward of training step `step`, or of a micro-batch of it.

        Args:
            step: its number, from 1.
            activation_TW: without padding, shape (T, W).
            lengths: real tokens of each example, B entries.
            labels: what is to be learned.
            micro_batch: its number in the step, from 0.
            share: its share of what the loss of the step is the mean of.

        Returns:
            The mean loss times the share, and its gradient with respect to the activation, (T, W).

        Raises:
            ProtocolError: a step or micro-batch out of order, labels or a share that do not fit.
        """
        self._expect_step(step, micro_batch)
        if not 0 < share <= 1:
            raise ProtocolError(f"micro-batch {micro_batch} has share {share}; over 0 up to 1 fit")
        labels_flat, mask_BM = self._checked(labels, lengths), mask_of(lengths, max(lengths))
        activation_BMW = unpack(activation_TW, lengths)
        loss, gradient_BMW = self._engine.step(activation_BMW, mask_BM, labels_flat, share)
        self._pending, self._micro_batches = step, micro_batch + 1
        self._shares += share
        return loss, pack(gradient_BMW, mask_BM)

    def apply(self, step: int, learning_rate: float, *, micro_batches: int = 1) -> None:
        """Step the optimizer with the gradients of step `step`.

        Args:
            step: its number.
            learning_rate: of this optimizer step.
            micro_batches: how many the step had.

        Raises:
            ProtocolError: that step does not wait for it, or not all of it has come, or the rate
                is negative or not finite.
        """
        if step != self._pending:
            waiting = "no step waits" if self._pending is None else f"step {self._pending} waits"
            raise ProtocolError(f"apply names step {step}, but {waiting} for it")
        if micro_batches != self._micro_batches or abs(self._shares - 1) > SHARE_ERROR:
            raise ProtocolError(
                f"apply of step {step} is for {micro_batches} micro-batches, but "
                f"{self._micro_batches} came, with {self._shares:g} of the loss"
            )
        if not (math.isfinite(learning_rate) and learning_rate >= 0):
            raise ProtocolError(f"apply of step {step} has learning rate {learning_rate}")
        self._engine.apply(learning_rate)
        self._pending, self.applied = None, step
        self._micro_batches, self._shares = 0, 0.0

    def split_labels(self, lengths: Sequence[int], labels: Labels, *, needed: bool) -> list[Labels]:
        """Return the labels of each example of a batch that is to be stored.

        Args:
            lengths: of each example.
            labels: flat; none at all where they are not needed.
            needed: whether they must be there: for training, and for causal-lm.

        Raises:
            ProtocolError: labels that do not fit.
        """
        if not needed and not labels:
            return []
        self._checked(labels, lengths)
        found, at = [], 0
        for length in lengths:
            count = self._head.label_count([length])
            found.append(labels[at : at + count])
            at += count
        return found

    def evaluate(
        self, activation_TW: Tensor, lengths: Sequence[int], labels: Sequence[int] = ()
    ) -> Tensor:
        """Return what the head says of a batch; `labels` are for causal-lm alone.

        Raises:
            ProtocolError: a step waits for its apply, or labels that do not fit.
        """
        if self._pending is not None:
            raise ProtocolError(f"evaluate came before apply of step {self._pending}")
        if labels and not self._head.next_token:
            raise ProtocolError(f"evaluate takes no labels with the head {self.spec.head}")
        known = self._checked(labels, lengths) if labels else None
        mask_BM = mask_of(lengths, max(lengths))
        return self._engine.evaluate(unpack(activation_TW, lengths), mask_BM, known)

    def check_verdict(self, lengths: Sequence[int], limit: int, *, labelled: bool) -> None:
        """Refuse an evaluation whose answer would be larger than a message may be.

        Raises:
            LimitError: shows both sizes.
        """
        classes = self.spec.num_labels
        size = 4 * math.prod(self._head.verdict_shape(lengths, classes, labelled=labelled))
        if size > limit:
            raise LimitError(
                f"the answer to {len(lengths)} examples with {sum(lengths)} tokens would take "
                f"{size:,} bytes, over the limit of {limit:,}; choose a smaller --batch-size"
            )

    def activation_shape(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Return the shape (T, W) that activations of these lengths must have.

        Raises:
            ProtocolError: no examples, an empty one, or one longer than the model takes.
            LimitError: with its padding the batch takes more memory than a step may.
        """
        if not lengths:
            raise ProtocolError("the batch has no examples")
        if min(lengths) < 1 or max(lengths) > self._shape.positions:
            raise ProtocolError(
                f"lengths lie in {min(lengths)}..{max(lengths)}, "
                f"the model takes 1..{self._shape.positions} tokens"
            )
        split = self.spec.split
        classes = self.spec.num_labels if self._logits_per_token else 0
        needed = step_bytes(self._shape, split, len(lengths), max(lengths), classes)
        needed += 12 * len(lengths) * self.spec.num_labels
        if needed > self._memory_bytes:
            raise LimitError(
                f"a batch of {len(lengths)} examples padded to {max(lengths)} tokens takes about "
                f"{needed / 1e9:,.1f} GB on the cloud, which gives a step "
                f"{self._memory_bytes / 1e9:,.1f} GB; choose a smaller --batch-size or --max-length"
            )
        return sum(lengths), self.width

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters of net2 on the CPU, by their stock names."""
        return self._engine.weights()

    def _expect_step(self, step: int, micro_batch: int) -> None:
        if micro_batch and (step, micro_batch) != (self._pending, self._micro_batches):
            expected = self._pending or self.applied + 1
            raise ProtocolError(
                f"micro-batch {micro_batch} of step {step} came, micro-batch "
                f"{self._micro_batches} of step {expected} was expected"
            )
        if not micro_batch and self._pending is not None:
            raise ProtocolError(f"step {step} came before apply of step {self._pending}")
        if not micro_batch and step != self.applied + 1:
            raise ProtocolError(f"step {step} came, step {self.applied + 1} was expected")

    def _checked(self, labels: Labels, lengths: Sequence[int]) -> Tensor:
        """Return the labels of a batch as the loss takes them, shape (their number,)."""
        expected = self._head.label_count(lengths)
        if len(labels) != expected:
            raise ProtocolError(
                f"a batch of {len(lengths)} examples with {sum(lengths)} tokens has {len(labels)} "
                f"labels; the head {self.spec.head} takes {expected}"
            )
        if self._head.labels == "number":
            numbers = torch.tensor(labels, dtype=torch.float32)
            if not numbers.isfinite().all():
                raise ProtocolError(f"number {numbers[~numbers.isfinite()][0]} is not finite")
            return numbers
        known = torch.tensor(labels, dtype=torch.int64)
        self._check_range(known, lengths)
        return known

    def _check_range(self, labels: Tensor, lengths: Sequence[int]) -> None:
        classes = torch.tensor(self.spec.num_labels)
        if self._head.labels == "span":
            classes = torch.tensor(lengths).repeat_interleave(2)
        wrong = (labels < 0) | (labels >= classes)
        if self._head.labels == "tokens":
            if bool((labels == IGNORED).all()):
                raise ProtocolError("no token of the batch has a label")
            wrong &= labels != IGNORED
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            limit = int(classes.expand_as(labels)[at])
            raise ProtocolError(f"label {int(labels[at])} is outside 0..{limit - 1}")
