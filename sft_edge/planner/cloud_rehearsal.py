"""Measures what net2 takes of a cloud: steps of sessions that are opened for it, and thrown away.

Activations are random, so nothing of anyone's data leaves; what comes back is looked at as seconds.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from sft_common.config import BASIS_CUTS, ModelShape, SessionSpec, SplitSpec
from sft_common.model.heads import HEAD_TABLE
from sft_common.plan import micro_batches
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession
from sft_edge.planner.edge_rehearsal import BUDGET_SECONDS, COUNTS, ROUNDS
from sft_edge.planner.scene import Lengths, Work, line_through, padded, per_block

SPREAD = 0.1
"""Standard deviation of the activations and gradients that are sent."""


class Measured(NamedTuple):
    """What net2 takes."""

    top: Work
    """Cut in the highest block that was rehearsed."""

    block: Work
    """A block more."""

    device: str
    """As the cloud calls it."""


class _Exchange(NamedTuple):
    """What one exchange took on the cloud, in seconds."""

    compute: float
    queue: float


def rehearse_cloud(
    access: Access,
    spec: SessionSpec,
    shape: ModelShape,
    layers: tuple[int, int],
    batches: Sequence[Lengths],
    *,
    prepared: bool,
    max_message_bytes: int,
) -> Measured:
    """Return what net2 takes of a cloud.

    Args:
        access: to it.
        spec: of the sessions; of its split the layer does not matter.
        shape: sizes of the model.
        layers: the highest and the lowest block to cut; both may be the same.
        batches: lengths of typical batches, from the smallest to the largest.
        prepared: whether the model holds the factors of its cut itself.
        max_message_bytes: largest message to take or send.

    Raises:
        SftError: the cloud is not to be reached, or refuses.
    """
    found = []
    for layer in dict.fromkeys(layers):
        at = dataclasses.replace(spec, split=dataclasses.replace(spec.split, split_layer=layer))
        noise = partial(_noise_basis, at.split, shape)
        session = GrpcSession(
            access,
            at,
            shape,
            max_message_bytes=max_message_bytes,
            basis=noise if at.split.cut in BASIS_CUTS and not prepared else None,
            prepared=prepared,
        )
        try:
            found.append(_rehearsed(session, at, shape, batches))
            session.close(discard=True)
        finally:
            session.abandon()
    block = per_block(found[0], found[-1], layers[0] - layers[1])
    return Measured(found[0], block, session.device)


def _rehearsed(
    session: GrpcSession, spec: SessionSpec, shape: ModelShape, batches: Sequence[Lengths]
) -> Work:
    """Take steps over a session; returns what they took on the cloud."""
    last = len(batches) - 1
    chosen = [(number, count) for number in sorted({0, last // 2, last}) for count in COUNTS]
    steps = _Steps(session, spec, shape)
    forward: dict[int, list[float]] = {}
    backward: dict[int, list[float]] = {}
    updates: list[float] = []
    begin = time.monotonic()
    for turn in range(ROUNDS):
        for number, count in chosen:
            if turn > 1 and time.monotonic() - begin > BUDGET_SECONDS:
                break
            lengths = batches[number]
            parts = [
                [lengths[row] for row in rows]
                for rows in micro_batches(range(len(lengths)), lengths, count)
            ]
            taken = steps.take(parts)
            if not turn:
                continue
            updates.append(taken[0][0].queue)
            for part, passes in zip(parts, taken, strict=True):
                for known, each in zip((forward, backward), passes, strict=True):
                    known.setdefault(padded(part), []).append(each.compute)
    there, back = (
        line_through([(tokens, median(taken)) for tokens, taken in known.items()])
        for known in (forward, backward)
    )
    return Work(there, back, median(updates))


class _Steps:
    """Steps of one session, in which logits come down and random gradients go up.

    Args:
        session: open.
        spec: what it was opened with.
        shape: sizes of the model.
    """

    def __init__(self, session: GrpcSession, spec: SessionSpec, shape: ModelShape) -> None:
        self._session, self._done = session, 0
        self._width = spec.split.wire_width(shape)
        self._head, self._classes = HEAD_TABLE[spec.head], spec.num_labels

    def take(self, parts: Sequence[Sequence[int]]) -> list[tuple[_Exchange, _Exchange]]:
        """Take a step of micro-batches of these lengths; returns what each pass took.

        The first also waits for the update of the step before.
        """
        self._done += 1
        forward, backward = [], []
        for place, lengths in enumerate(parts):
            activation_TW = SPREAD * torch.randn(sum(lengths), self._width)
            self._session.begin_forward(self._done, activation_TW, lengths, exchange=place)
            forward.append(self._ended(self._session.end_forward))
        for place, lengths in enumerate(parts):
            gradient = SPREAD * torch.randn(self._head.rows_shape(lengths, self._classes))
            self._session.begin_backward(
                self._done,
                gradient,
                forward=place,
                tokens=sum(lengths),
                exchange=len(parts) + place,
            )
            backward.append(self._ended(self._session.end_backward))
        self._session.apply(self._done, 0.0, exchanges=2 * len(parts))
        return list(zip(forward, backward, strict=True))

    def _ended(self, end: Callable[[], torch.Tensor]) -> _Exchange:
        traffic = self._session.traffic
        compute, queue = traffic.compute_seconds, traffic.queue_seconds
        end()
        return _Exchange(traffic.compute_seconds - compute, traffic.queue_seconds - queue)


def _noise_basis(split: SplitSpec, shape: ModelShape) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a basis of no meaning: mu (N,) and D (R, N)."""
    return torch.zeros(shape.hidden), SPREAD * torch.randn(split.rank, shape.hidden)
