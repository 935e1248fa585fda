"""One try at a round: who was drawn, what has come of it. It knows no clocks, no RPC."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sft_common.errors import ForbiddenError
from sft_common.federation.said import DUTIES, Attempt, Finding

OUTCOMES = ("taken", "late", "gone", "not_finite", "gave_up")
"""What becomes of the update that a client which was drawn is to hand in."""

ABSENT = ("late", "gone")
"""Those of clients of whom nothing came."""

LATE, GONE = "nothing came in time", "the client has gone"

MOST_REASONS = 5
"""That are told of a round in words."""


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

        self._outcomes: dict[str, str] = {}
        self._taking_part = frozenset(drawn)
        self._asked = set[str]()
        self.closed = False

    def ask(self, clients: Iterable[str]) -> None:
        """Begin the turn of some clients: nothing is taken of others."""
        self._asked |= set(clients)

    @property
    def missing(self) -> list[str]:
        """Clients of which nothing is known yet."""
        return [name for name in self.drawn if self.awaits(name)]

    def awaits(self, client: str) -> bool:
        """Return whether something is still to come of a client."""
        known = client in self.updates or client in self.lost
        return client in self._taking_part and not known

    @property
    def outcomes(self) -> dict[str, str]:
        """Client -> what became of its update, one of `OUTCOMES`, where that is known."""
        return dict.fromkeys(self.updates, "taken") | self._outcomes

    @property
    def losses(self) -> str:
        """Why clients are lost, for people."""
        said = [f"{client}: {reason}" for client, reason in self.lost.items()]
        more = [f"and {len(said) - MOST_REASONS} more"] if len(said) > MOST_REASONS else []
        return "; ".join([*said[:MOST_REASONS], *more])

    def accept(self, client: str) -> bool:
        """Return whether an update of a client is still to come; False: it was taken before.

        Raises:
            ForbiddenError: nothing of that client counts here; says why.
        """
        if client not in self._taking_part:
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

    def lose(self, client: str, reason: str, outcome: str = "gave_up") -> None:
        """Go on without a client of which nothing has come.

        Args:
            client: its name.
            reason: for people.
            outcome: one of `OUTCOMES`.
        """
        assert outcome in OUTCOMES
        if self.awaits(client) and not self.closed:
            self.lost[client], self._outcomes[client] = reason, outcome

    def forget(self) -> None:
        """Let go of the tensors of updates, which are averaged by now."""
        for client, update in self.updates.items():
            self.updates[client] = dataclasses.replace(update, tensors={}, cloud={})

    def close(self) -> None:
        """Take no more updates: what is missing is late."""
        for client in self.missing:
            self.lose(client, LATE, "late")
        self.closed = True
