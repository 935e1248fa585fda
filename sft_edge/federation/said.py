"""What a cloud tells a client of a federation, and what a client answers. No RPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class Attempt(NamedTuple):
    """One try at a round."""

    round: int
    """From 1; 0 of a calibration, before the first."""

    number: int
    """From 1, of all of the federation."""

    life: int
    """A random number of the cloud."""


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
    """"train", "calibrate-cut", "calibrate-tail" or "evaluate"."""

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
    """As of `Work`; empty: it came with the work before."""


Said = Waiting | Work | Over | Ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a client found of an average on its validation part."""

    examples: int
    metric: str
    value: float
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a client has done in a try at a round."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """What it trained or found."""

    weight: int = 0
    """Training examples behind it, or tokens."""

    session_id: str = ""
    """Whose net2 belongs to it."""

    finding: Finding | None = None
    """Of the average that it was given."""

    tells_finding: bool = True
    """Whether the cloud is told."""

    facts: Mapping[str, object] = field(default_factory=dict)
    """For the history: losses, examples kept."""
