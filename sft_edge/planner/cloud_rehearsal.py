"""Measures what net2 takes of a cloud: steps of sessions that are opened for it, and thrown away.

Activations are random, so nothing of anyone's data leaves; what comes back is looked at as seconds.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from statistics import median
from typing import NamedTuple, Protocol

import torch

from sft_common.commandline import Stopped
from sft_common.config import BASIS_CUTS, ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ProtocolError, SftError
from sft_common.model.heads import HEAD_TABLE
from sft_common.plan import micro_batches
from sft_common.rpc.spec import CloudBasis
from sft_edge.client import GrpcSession
from sft_edge.planner.edge_rehearsal import BUDGET_SECONDS, ROUNDS, steps_of
from sft_edge.planner.scene import BACKWARD, Lengths, Work, line_through, padded, per_block
from sft_edge.remote import Rewound
from sft_edge.stopping import Interrupted, Stopper

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


class Open(Protocol):
    """Opens a session."""

    def __call__(
        self, spec: SessionSpec, *, basis: Callable[[], CloudBasis] | None, prepared: bool
    ) -> GrpcSession:
        """Return it; arguments and errors as of `GrpcSession`."""


def rehearse_cloud(
    open_one: Open,
    spec: SessionSpec,
    shape: ModelShape,
    layers: tuple[int, int],
    batches: Sequence[Lengths],
    *,
    prepared: bool,
    keeps_labels: bool,
) -> Measured:
    """Return what net2 takes of a cloud.

    Args:
        open_one: opens a session with it.
        spec: of the sessions; of its split the layer does not matter.
        shape: sizes of the model.
        layers: the highest and the lowest block to cut; both may be the same.
        batches: lengths of typical batches, from the smallest to the largest.
        prepared: whether the model holds the factors of its cut itself.
        keeps_labels: whether they are to stay here in the training that is planned.

    Raises:
        SftError: the cloud is not to be reached, or refuses.
        Stopped: somebody stopped it.
    """
    found = []
    for layer in dict.fromkeys(layers):
        at = dataclasses.replace(spec, split=dataclasses.replace(spec.split, split_layer=layer))
        noise = partial(_noise_basis, at.split, shape)
        basis = noise if at.split.cut in BASIS_CUTS and not prepared else None
        session = open_one(at, basis=basis, prepared=prepared)
        with _thrown_away(session) as stopped:
            steps = _Steps(session, at, shape, keeps_labels=keeps_labels)
            found.append(_rehearsed(steps, batches, stopped))
    block = per_block(found[0], found[-1], layers[0] - layers[1])
    return Measured(found[0], block, session.device)


@contextmanager
def _thrown_away(session: GrpcSession) -> Iterator[Callable[[], bool]]:
    """Have the cloud keep nothing of a session, however the block ends; yields whether to stop."""
    try:
        with Stopper() as stopper:
            try:
                yield stopper.asked
            except Exception:
                with suppress(SftError, Rewound):
                    session.close(discard=True)
                raise
            session.close(discard=True)
    except Interrupted:
        raise Stopped("stopped; the cloud keeps nothing of what was measured") from None
    finally:
        session.abandon()


def _rehearsed(steps: _Steps, batches: Sequence[Lengths], stopped: Callable[[], bool]) -> Work:
    """Take steps over a session; returns what they took on the cloud.

    What an update took is what the next step's first message waited for it, less the time that this
    was on its way: the smallest of these messages say it best.
    """
    chosen = steps_of(len(batches))
    forward: dict[int, list[float]] = {}
    backward: dict[int, list[float]] = {}
    updates: dict[int, list[float]] = {}
    begin = time.monotonic()
    for turn in range(ROUNDS):
        for number, count in chosen:
            if turn > 1 and time.monotonic() - begin > BUDGET_SECONDS:
                break
            if stopped():
                raise Interrupted(steps.done)
            lengths = batches[number]
            parts = [
                [lengths[row] for row in rows]
                for rows in micro_batches(range(len(lengths)), lengths, count)
            ]
            taken = steps.take(parts)
            if not turn:
                continue
            updates.setdefault(sum(parts[0]), []).append(taken[0][0].queue)
            for part, passes in zip(parts, taken, strict=True):
                for known, each in zip((forward, backward), passes, strict=True):
                    known.setdefault(padded(part), []).append(each.compute)
    there, back = (
        line_through([(tokens, median(taken)) for tokens, taken in known.items()])
        for known in (forward, backward)
    )
    return Work(there, back, median(updates[min(updates)]))


class _Steps:
    """Steps of one session, in which logits come down and random gradients go up.

    But for language models: the logits of all tokens would be more than a link or a message takes.
    Random labels go up instead, if the training's are to, and both passes are told in one figure.

    Args:
        session: open.
        spec: what it was opened with.
        shape: sizes of the model.
        keeps_labels: whether labels are to stay here in the training that is planned.
    """

    def __init__(
        self, session: GrpcSession, spec: SessionSpec, shape: ModelShape, *, keeps_labels: bool
    ) -> None:
        self._session, self.done, self._exchanges = session, 0, 0
        self._width = spec.split.wire_width(shape)
        self._head, self._classes = HEAD_TABLE[spec.head], spec.num_labels
        self._sends_labels = self._head.next_token and not keeps_labels

    def take(self, parts: Sequence[Sequence[int]]) -> list[tuple[_Exchange, _Exchange]]:
        """Take a step of micro-batches of these lengths; returns what each pass took.

        The first also waits for the update of the step before, which is asked for here, so that
        nothing but the message itself comes between them.
        """
        activations = [SPREAD * torch.randn(sum(part), self._width) for part in parts]
        if self._exchanges:
            self._session.apply(self.done, 0.0, exchanges=self._exchanges)
        self.done += 1
        take = self._take_whole if self._sends_labels else self._take_passes
        taken = take(parts, activations)
        self._exchanges = len(parts) * (1 if self._sends_labels else 2)
        return taken

    def _take_passes(
        self, parts: Sequence[Sequence[int]], activations: Sequence[torch.Tensor]
    ) -> list[tuple[_Exchange, _Exchange]]:
        forward, backward = [], []
        for place, (lengths, activation_TW) in enumerate(zip(parts, activations, strict=True)):
            self._session.begin_forward(self.done, activation_TW, lengths, exchange=place)
            forward.append(self._ended(self._session.end_forward))
        for place, lengths in enumerate(parts):
            gradient = SPREAD * torch.randn(self._head.rows_shape(lengths, self._classes))
            self._session.begin_backward(
                self.done,
                gradient,
                forward=place,
                tokens=sum(lengths),
                exchange=len(parts) + place,
            )
            backward.append(self._ended(self._session.end_backward))
        return list(zip(forward, backward, strict=True))

    def _take_whole(
        self, parts: Sequence[Sequence[int]], activations: Sequence[torch.Tensor]
    ) -> list[tuple[_Exchange, _Exchange]]:
        taken, total = [], sum(map(sum, parts))
        for place, (lengths, activation_TW) in enumerate(zip(parts, activations, strict=True)):
            labels = torch.randint(self._classes, (sum(lengths),)).tolist()
            share = sum(lengths) / total
            self._session.begin_step(
                self.done, activation_TW, lengths, labels, exchange=place, share=share
            )
            both = self._ended(self._session.end_step)
            forward = both.compute / (1 + BACKWARD)
            taken.append((both._replace(compute=forward), _Exchange(BACKWARD * forward, 0.0)))
        return taken

    def _ended(self, end: Callable[[], object]) -> _Exchange:
        traffic = self._session.traffic
        compute, queue = traffic.compute_seconds, traffic.queue_seconds
        end()
        took = _Exchange(traffic.compute_seconds - compute, traffic.queue_seconds - queue)
        if not all(math.isfinite(seconds) and seconds >= 0 for seconds in took):
            raise ProtocolError(
                f"the cloud says that it worked {took.compute} s behind {took.queue} s of waiting; "
                "these are no times"
            )
        return took


def _noise_basis(split: SplitSpec, shape: ModelShape) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a basis of no meaning: mu (N,) and D (R, N)."""
    return torch.zeros(shape.hidden), SPREAD * torch.randn(split.rank, shape.hidden)
