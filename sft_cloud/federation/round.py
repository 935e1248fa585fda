"""One try at a round: who was drawn, what has come of it. It knows no clocks, no RPC."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sft_common.errors import ForbiddenError
from sft_common.federation.said import DUTIES, Attempt, Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What a client has handed in."""

    weight: int
    """Training examples behind it, or tokens of a calibration."""

    tensors: Mapping[str, Tensor]
    """What the client trained or found."""

    cloud: Mapping[str, Tensor] = field(default_factory=dict)
    """What its session trained on the cloud."""

    finding: Finding | None = None
    """Of the average that it was given."""


def draw(names: Iterable[str], count: int, *, seed: int, attempt: Attempt) -> list[str]:
    """Return the clients of a round: `count` of them, or all, in the order of their turns.

    The same clients, seed and attempt give the same ones, on any machine.
    """
    known = sorted(names)
    chance = random.Random(f"{seed}/{attempt.round}/{attempt.number}")
    return chance.sample(known, min(count, len(known)))


class Round:
    """One try at a round.

    Args:
        attempt: which.
        duty: what is to be done, one of `DUTIES`.
        drawn: the clients that take part, in the order of their turns.
    """

    def __init__(self, attempt: Attempt, duty: str, drawn: Sequence[str]) -> None:
        assert duty in DUTIES
        self.attempt, self.duty, self.drawn = attempt, duty, tuple(drawn)
        self.updates: dict[str, Update] = {}
        self.lost: dict[str, str] = {}
        """Why nothing of a client counts."""

        self.closed = False
        self._asked = set[str]()

    def ask(self, clients: Iterable[str]) -> None:
        """Begin the turn of some clients: nothing is taken of others."""
        self._asked |= set(clients)

    @property
    def missing(self) -> list[str]:
        """Clients of which nothing is known yet."""
        return [name for name in self.drawn if name not in self.updates and name not in self.lost]

    def accept(self, client: str) -> bool:
        """Return whether an update of a client is still to come; False: it was taken before.

        Raises:
            ForbiddenError: nothing of that client counts here; says why.
        """
        if client not in self.drawn:
            raise ForbiddenError(f"{self.attempt} is not for this client")
        if client not in self._asked:
            raise ForbiddenError(f"{self.attempt} is under way, but its turn has not come")
        if client in self.updates:
            return False
        if self.closed:
            raise ForbiddenError(f"{self.attempt} was closed before the update came")
        if client in self.lost:
            raise ForbiddenError(f"{self.attempt} goes on without this client: {self.lost[client]}")
        return True

    def take(self, client: str, update: Update) -> None:
        """Count an update, unless one was; raises as `accept`."""
        if self.accept(client):
            self.updates[client] = update

    def lose(self, client: str, reason: str) -> None:
        """Go on without a client of which nothing has come."""
        if client in self.missing and not self.closed:
            self.lost[client] = reason

    def close(self) -> None:
        """Take no more updates: what is missing is late."""
        for client in self.missing:
            self.lost[client] = "nothing came in time"
        self.closed = True
