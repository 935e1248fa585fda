"""What a cloud tells a client of a federation, and what the client found. No RPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DUTIES = ("train", "calibrate-cut", "calibrate-tail", "evaluate")
"""What clients are to do in a round."""


class Attempt(NamedTuple):
    """One try at a round."""

    round: int
    """From 1; 0 of a calibration, before the first."""

    number: int
    """From 1, of all tries of the federation that the disk knows."""

    life: int = 0
    """A random number, drawn when the federation is taken up: no try comes twice, though a cloud
    that was killed counts some of them anew."""

    def __str__(self) -> str:
        return f"round {self.round}, try {self.number}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is to be done yet."""

    round: int
    present: int
    minimum: int


@dataclass(frozen=True, slots=True)
class Work:
    """Something is to be done."""

    attempt: Attempt
    duty: str
    """One of `DUTIES`."""

    evaluate: bool
    """Whether the average is to be evaluated first."""

    data: bytes
    """The average and the client's share of the cuts, as a safetensors file."""


@dataclass(frozen=True, slots=True)
class Over:
    """A try is over: its update would be refused."""

    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The federation has ended."""

    data: bytes
    """The last average, as of `Work`; empty: it came with the work before."""


Said = Waiting | Work | Over | Ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a client found of an average on its validation part."""

    examples: int
    """At least 1."""

    metric: str
    """The metric that comes first in its task."""

    value: float
    loss: float
