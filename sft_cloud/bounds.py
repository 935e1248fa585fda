"""What a batch may be: sizes and ranges, checked before the engine sees a number.

It knows no order of requests and no messages.

Legend: B batch, M padded length, T real tokens, W width on the wire, C classes. Shapes of labels
and logits are those of the head (sft_common/model/heads.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sft_common.config import ModelShape, SessionSpec
from sft_common.errors import LimitError, ProtocolError
from sft_common.model.heads import IGNORED, answer_of
from sft_common.rpc.options import MAX_MESSAGE_BYTES
from sft_common.step_memory import memory_of
from sft_common.wire.encodings import ENCODING_TABLE

ENVELOPE_BYTES = 1000
"""More than an answer takes beside the numbers of its tensor."""

REPLY_BYTES = 4 * MAX_MESSAGE_BYTES
"""What the answers to one step may take, all its micro-batches together, unless told otherwise."""

Labels = Sequence[int] | Sequence[float]
"""Of a batch, flat; floats for a regression."""


class Bounds:
    """The bounds of one session's batches.

    Args:
        spec: what the edge opened the session with; the largest batch that it names holds.
        shape: sizes of the model.
        memory_bytes: what the activations of one step may take.
        message_bytes: largest tensor that a message may carry.
        logits_per_token: whether the head makes logits for every token, if only to choose one.
        reply_bytes: what the answers to one step may take, which are kept until it is applied.
    """

    def __init__(
        self,
        spec: SessionSpec,
        shape: ModelShape,
        *,
        memory_bytes: int,
        message_bytes: int,
        logits_per_token: bool,
        reply_bytes: int = REPLY_BYTES,
    ) -> None:
        self.width = spec.split.wire_width(shape)
        self._spec, self._longest = spec, shape.positions + spec.prompts
        self._shape = shape
        self._memory_bytes, self._message_bytes = memory_bytes, message_bytes
        self._reply_bytes = reply_bytes
        self._head, self._classes = answer_of(spec, shape)
        self._encoding = spec.tail.encoding if spec.tail else "float32"
        self._logits_per_token = logits_per_token or self._head.per_token

    def activation_shape(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Return the shape (T, W) that activations of these lengths must have.

        Raises:
            ProtocolError: no examples, an empty one, or one longer than the model takes.
            LimitError: the batch is larger than was announced, or takes more memory with its
                padding than a step may.
        """
        if not lengths:
            raise ProtocolError("the batch has no examples")
        longest = max(lengths)
        least = 1 + self._spec.prompts
        if min(lengths) < least or longest > self._longest:
            raise ProtocolError(
                f"lengths lie in {min(lengths)}..{longest}, "
                f"the model takes {least}..{self._longest} tokens"
            )
        self._check_announced(len(lengths), longest)
        needed = self._memory_of(lengths)
        if needed > self._memory_bytes:
            raise LimitError(
                f"a batch of {len(lengths)} examples padded to {longest} tokens takes about "
                f"{needed / 1e9:,.1f} GB on the cloud, which gives a step "
                f"{self._memory_bytes / 1e9:,.1f} GB; choose a smaller --batch-size or --max-length"
            )
        return sum(lengths), self.width

    def _check_announced(self, examples: int, longest: int) -> None:
        """Refuse a batch for which no memory was reserved."""
        spec = self._spec
        if examples > (spec.max_examples or examples) or longest > (spec.max_tokens or longest):
            raise LimitError(
                f"a batch of {examples} examples of up to {longest} tokens came; the session was "
                f"opened for {spec.max_examples or 'any number of'} examples of up to "
                f"{spec.max_tokens or self._longest} tokens"
            )

    def check_waiting(self, waiting: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
        """Refuse a forward pass beside others that wait for their backward, if there is no room.

        Args:
            waiting: lengths of the examples of each of those.
            lengths: of its own.

        Raises:
            LimitError: shows both sizes.
        """
        needed = sum(self._memory_of(each) for each in (*waiting, lengths))
        if waiting and needed > self._memory_bytes:
            raise LimitError(
                f"{len(waiting)} passes wait for their backward; with one more of {len(lengths)} "
                f"examples they take about {needed / 1e9:,.1f} GB on the cloud, which gives a step "
                f"{self._memory_bytes / 1e9:,.1f} GB; run backward first, or choose smaller batches"
            )

    def _memory_of(self, lengths: Sequence[int]) -> int:
        return memory_of(
            self._spec,
            self._shape,
            len(lengths),
            max(lengths),
            logits_per_token=self._logits_per_token,
        )

    def rows_shape(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Return the shape of what a forward pass gives, without padding (`Head.rows`)."""
        return self._head.rows_shape(lengths, self._classes)

    def check_rows(self, lengths: Sequence[int], kept: int = 0) -> None:
        """Refuse a forward pass whose answer would be larger than may be.

        Args:
            lengths: of its examples.
            kept: bytes of the answers to the same step that came before.

        Raises:
            LimitError: shows both sizes.
        """
        if self._spec.tail is None:
            what, option = f"the logits of {sum(lengths):,} tokens", "--labels cloud"
        else:
            what, option = f"the rows of {sum(lengths):,} tokens", "encoding of the tail"
        self._check_answer(
            self._size(self.rows_shape(lengths)) + ENVELOPE_BYTES, kept, what, option
        )

    def check_gradient(self, tokens: int, kept: int = 0) -> None:
        """Refuse a micro-batch whose answer would be larger than a message may be.

        Args:
            tokens: T.
            kept: bytes of the answers to the same step that came before.

        Raises:
            LimitError: shows both sizes.
        """
        encoding = self._spec.gradient_encoding
        size = tokens * ENCODING_TABLE[encoding].row_bytes(self.width) + ENVELOPE_BYTES
        what = f"the gradient of {tokens:,} tokens in {encoding}"
        self._check_answer(size, kept, what, "--grad-encoding")

    def _check_answer(self, size: int, kept: int, what: str, option: str) -> None:
        if size > self._message_bytes:
            raise LimitError(
                f"{what} would take {size:,} bytes, over the limit of {self._message_bytes:,}; "
                f"choose a smaller --batch-size or {option}, or raise --max-message on both sides"
            )
        if kept + size > self._reply_bytes:
            raise LimitError(
                f"with {what} the answers to one step would take {kept + size:,} bytes, over the "
                f"limit of {self._reply_bytes:,}; choose a smaller --batch-size or {option}"
            )

    def verdict_bytes(self, lengths: Sequence[int], *, labelled: bool) -> int:
        """Return the size of what an evaluation of examples of these lengths gives."""
        return self._size(self._head.verdict_shape(lengths, self._classes, labelled=labelled))

    def _size(self, shape: Sequence[int]) -> int:
        """Return the bytes of an answer's tensor."""
        return math.prod(shape[:-1]) * ENCODING_TABLE[self._encoding].row_bytes(shape[-1])

    def check_verdict(self, lengths: Sequence[int], *, labelled: bool) -> None:
        """Refuse an evaluation whose answer would be larger than a message may be.

        Raises:
            LimitError: shows both sizes.
        """
        size = self.verdict_bytes(lengths, labelled=labelled)
        if size > self._message_bytes:
            raise LimitError(
                f"the answer to {len(lengths)} examples with {sum(lengths)} tokens would take "
                f"{size:,} bytes, over the limit of {self._message_bytes:,}; choose a smaller "
                "--batch-size, or raise --max-message on both sides"
            )

    def check_label_count(self, lengths: Sequence[int], count: int) -> None:
        """Refuse too many or too few labels, before any of them is looked at.

        Raises:
            ProtocolError: shows both numbers.
        """
        expected = self._head.label_count(lengths)
        if count != expected:
            raise ProtocolError(
                f"a batch of {len(lengths)} examples with {sum(lengths)} tokens has {count} "
                f"labels; the head {self._spec.head} takes {expected}"
            )

    def checked_labels(self, labels: Labels, lengths: Sequence[int]) -> Tensor:
        """Return the labels of a batch as the loss takes them, shape (their number,).

        Raises:
            ProtocolError: too many, too few, or out of their range.
        """
        self.check_label_count(lengths, len(labels))
        if self._head.labels == "number":
            numbers = torch.tensor(labels, dtype=torch.float32)
            if not numbers.isfinite().all():
                raise ProtocolError(f"number {numbers[~numbers.isfinite()][0]} is not finite")
            return numbers
        known = torch.tensor(labels, dtype=torch.int64)
        self._check_range(known, lengths)
        return known

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
        self.checked_labels(labels, lengths)
        found, at = [], 0
        for length in lengths:
            count = self._head.label_count([length])
            found.append(labels[at : at + count])
            at += count
        return found

    def _check_range(self, labels: Tensor, lengths: Sequence[int]) -> None:
        classes = torch.tensor(self._classes)
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
