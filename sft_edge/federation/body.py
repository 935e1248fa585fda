"""A frozen body on a cloud, called like one that is here: one autograd function hides the exchange.

It knows no training: who calls it writes a step as with a plain model. A body has no state, so a
session that the cloud has forgotten is opened anew, and what was lost with it is computed again.

Legend: B batch, M sequence with its prompts, T real tokens and prompts, W1 and W2 width on the wire
of both cuts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from sft_common.errors import SessionLostError, SftError
from sft_common.wire.packing import pack, spread
from sft_edge.elsewhere import remote_logits
from sft_edge.remote import CloudSession, Rewound

T = TypeVar("T")


class BodySession(CloudSession, Protocol):
    """A session with a frozen body."""

    def abandon(self) -> None:
        """Drop the connection without ending the session; safe to repeat."""


@dataclass(kw_only=True, slots=True)
class _Pass:
    """A forward pass whose backward may come."""

    activation_TW: Tensor
    lengths: list[int]
    session: BodySession
    exchange: int
    """Its place in the step of that session."""


class RemoteBody:
    """The body of a model in three parts, computed by a cloud; a `parts.Body`.

    A step of the session ends by itself when each of its passes has had its backward.

    Args:
        reach: opens a session with a frozen body; called at once, and whenever the cloud has
            forgotten the one before.
        first_row: as of `TailSpec`.

    Raises:
        SftError: the cloud is not to be reached, or refuses.
    """

    def __init__(self, reach: Callable[[], BodySession], *, first_row: bool) -> None:
        self._reach, self._first_row = reach, first_row
        self._passes: dict[int, _Pass] = {}
        self._numbered = 0
        self.session = reach()
        self._step, self._exchanges = 1, 0

    def _open_again(self) -> None:
        self.session.abandon()
        self.session = self._reach()
        self._step, self._exchanges = 1, 0

    def __call__(self, activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        """Return what the tail goes on with, (B, M, W2), or (B, W2) of the first tokens alone.

        Differentiable with respect to the activation.

        Args:
            activation_BMW: of the first cut, (B, M, W1), on any device.
            attention_mask_BM: 1 for a real token or a prompt, 0 for padding on the right, (B, M).
        """
        mask_BM = attention_mask_BM.bool().cpu()
        lengths = mask_BM.sum(dim=1).tolist()
        rows = self.rows(pack(activation_BMW, mask_BM), lengths)
        return rows if self._first_row else spread(rows, mask_BM)

    def rows(self, activation_TW: Tensor, lengths: list[int]) -> Tensor:
        """Return the body's rows without padding, (T, W2), or (B, W2) of the first tokens alone.

        Args:
            activation_TW: of the first cut without padding, (T, W1), on any device.
            lengths: real tokens and prompts of each example.

        Raises:
            SftError: the cloud is not to be reached, or refuses.
        """
        if torch.is_grad_enabled() and activation_TW.requires_grad:
            rows = remote_logits(activation_TW, None, self, lengths)
        else:
            rows = self._evaluated(_here(activation_TW), lengths)
        return rows.to(activation_TW.device)

    def close(self) -> None:
        """End the session; one that is lost, or whose cloud is, has ended."""
        self._passes.clear()
        try:
            self.session.close()
        except (SftError, Rewound):
            self.session.abandon()

    def forward(self, activation_TW: Tensor, lengths: list[int]) -> tuple[Tensor, int, int]:
        """Return rows that wait for a gradient, and the number of their pass; see `Elsewhere`."""
        sent = _here(activation_TW)
        passed = self._lasting(lambda: self._pass(sent, lengths))
        self._numbered += 1
        self._passes[self._numbered] = passed[0]
        return passed[1], 0, self._numbered

    def backward(self, gradient: Tensor, step: int, forward: int, tokens: int) -> Tensor:
        """Return the gradient of the activation, (T, W1), from that of the rows."""
        known = self._passes.pop(forward)
        gradient_TW = self._lasting(lambda: self._back(known, _here(gradient), tokens))
        if not self._passes:
            self._end_step()
        return gradient_TW

    def _lasting(self, work: Callable[[], T]) -> T:
        """Return what work comes to, done once more in a new session if the cloud forgot the old.

        Raises:
            SftError: the cloud is not to be reached, or refuses, the new session too.
        """
        try:
            return work()
        except SessionLostError:
            self._open_again()
            return work()

    def _pass(self, sent_TW: Tensor, lengths: list[int]) -> tuple[_Pass, Tensor]:
        place = self._next_exchange()
        self.session.begin_forward(self._step, sent_TW, lengths, exchange=place)
        rows = self.session.end_forward()
        known = _Pass(activation_TW=sent_TW, lengths=lengths, session=self.session, exchange=place)
        return known, rows

    def _back(self, known: _Pass, gradient: Tensor, tokens: int) -> Tensor:
        if known.session is not self.session:
            known, _ = self._pass(known.activation_TW, known.lengths)
        self.session.begin_backward(
            self._step,
            gradient,
            forward=known.exchange,
            tokens=tokens,
            exchange=self._next_exchange(),
        )
        return self.session.end_backward()

    def _evaluated(self, sent_TW: Tensor, lengths: list[int]) -> Tensor:
        """Return rows that nobody asks a gradient of."""

        def work() -> Tensor:
            if self._exchanges:  # a cloud evaluates between steps only
                return self._pass(sent_TW, lengths)[1]
            self.session.begin_evaluation(sent_TW, lengths)
            return self.session.end_evaluation()

        return self._lasting(work)

    def _next_exchange(self) -> int:
        place, self._exchanges = self._exchanges, self._exchanges + 1
        return place

    def _end_step(self) -> None:
        """Have the cloud drop what it keeps of the step; it does not answer."""
        if self._exchanges:
            step, exchanges = self._step, self._exchanges
            self._step, self._exchanges = step + 1, 0
            try:
                self.session.apply(step, 0.0, exchanges=exchanges)
            except SessionLostError:
                self._open_again()


def _here(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous().cpu()
