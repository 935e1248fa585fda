"""What has happened in a training over stored examples: events, for followers and for the disk.

No RPC, no messages.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, starmap
from typing import NamedTuple

import torch
from torch import Tensor

from sft_common.errors import SftError


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was done."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch of a validation part was evaluated."""

    step: int
    part: int
    verdict: Tensor
    """As `Session.evaluate` gives it, on the CPU."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The training has ended."""

    steps: int
    saved: bool
    cloud_seconds: float


Event = Stepped | Judged | Finished


class Size(NamedTuple):
    """How much there will be to tell of a training."""

    steps: int

    size_bytes: int
    """About what its events take in memory."""


class Story:
    """The events of one training, for any number of followers, each from where it likes.

    Args:
        owner: whose training it is.
        size: of what it will tell.
        events: that have happened already.
        error: that it has ended with already.
    """

    def __init__(
        self,
        owner: str,
        size: Size,
        events: Sequence[Event] = (),
        error: SftError | None = None,
    ) -> None:
        self.owner, self.size = owner, size
        self.events = list(events)
        self._error = error
        self._changed = asyncio.Condition()

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self._error is not None or (
            bool(self.events) and isinstance(self.events[-1], Finished)
        )

    async def add(self, *events: Event) -> None:
        """Append events."""
        async with self._changed:
            self.events += events
            self._changed.notify_all()

    async def fail(self, error: SftError) -> None:
        """End with an error."""
        async with self._changed:
            self._error = _bare(error)
            self._changed.notify_all()

    async def follow(self, start: int) -> AsyncIterator[Event]:
        """Yield all events from number `start` on, waiting for those to come.

        Raises:
            SftError: the one that the training ended with.
        """
        at = start
        while not self.ended or at < len(self.events):
            async with self._changed:
                while at >= len(self.events) and not self.ended:
                    await self._changed.wait()
            for event in self.events[at:]:
                yield event
                at += 1
        if self._error is not None:
            raise _bare(self._error)


def _bare(error: SftError) -> SftError:
    """Return an error without what it was raised in, which would live as long as it does."""
    return type(error)(*error.args)


def judged_behind(events: Sequence[Event], step: int) -> int:
    """Return how many batches were evaluated behind a step."""
    return sum(isinstance(event, Judged) and event.step == step for event in events)


def as_tensors(events: Sequence[Event]) -> dict[str, Tensor]:
    """Return steps and verdicts as a few tensors; `of_tensors` reads them."""
    steps = [event for event in events if isinstance(event, Stepped)]
    judged = [(n, event) for n, event in enumerate(events) if isinstance(event, Judged)]
    verdicts = [event.verdict for _, event in judged]
    whole, real = torch.int64, torch.float64
    return {
        "step": torch.tensor([event.step for event in steps], dtype=whole),
        "epoch": torch.tensor([event.epoch for event in steps], dtype=whole),
        "loss": torch.tensor([event.loss for event in steps], dtype=real),
        "learning_rate": torch.tensor([event.learning_rate for event in steps], dtype=real),
        "judged_at": torch.tensor([n for n, _ in judged], dtype=whole),
        "judged_step": torch.tensor([event.step for _, event in judged], dtype=whole),
        "judged_part": torch.tensor([event.part for _, event in judged], dtype=whole),
        "dimensions": torch.tensor([verdict.dim() for verdict in verdicts], dtype=whole),
        "shapes": torch.tensor([n for verdict in verdicts for n in verdict.shape], dtype=whole),
        "verdicts": torch.cat([torch.empty(0), *(verdict.flatten() for verdict in verdicts)]),
    }


def of_tensors(tensors: Mapping[str, Tensor]) -> list[Event]:
    """Return what `as_tensors` was given, but for the end.

    Raises:
        KeyError, ValueError, RuntimeError: a tensor is missing, or does not fit the others.
    """
    columns = (tensors[name].tolist() for name in ("step", "epoch", "loss", "learning_rate"))
    steps = starmap(Stepped, zip(*columns, strict=True))
    columns = (tensors[f"judged_{name}"].tolist() for name in ("at", "step", "part"))
    events: list[Event] = []
    for at, step, part, verdict in zip(*columns, _verdicts(tensors), strict=True):
        events += islice(steps, at - len(events))
        events.append(Judged(step, part, verdict))
    return [*events, *steps]


def _verdicts(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    sizes = iter(tensors["shapes"].tolist())
    shapes = [tuple(islice(sizes, count)) for count in tensors["dimensions"].tolist()]
    flat = tensors["verdicts"].split([math.prod(shape) for shape in shapes]) if shapes else ()
    return [numbers.reshape(shape) for numbers, shape in zip(flat, shapes, strict=True)]
