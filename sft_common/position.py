"""How far a session has come: what edge and cloud compare before anything moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sft_common.config import SessionSpec


class Position(NamedTuple):
    """A place in the order of what changes a session; later ones compare as greater.

    A step of two exchanges goes (0, 0), (0, 1), (0, 2), then, applied, (1, 0).
    """

    applied: int = 0
    """Steps that the optimizer has taken."""

    exchanges: int = 0
    """Exchanges of the next step that have been answered: micro-batches, or passes of them."""

    stored: int = 0
    """Batches of examples that were taken, of a session whose edge is frozen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Return:
    """What an edge says when it takes up a session again (protos: Resume)."""

    session_id: str
    """Name of the session."""

    spec: SessionSpec
    """What it was opened with."""

    incarnation: int
    """Of the edge's program."""

    confirmed: Position | None = None
    """The last position that an answer has confirmed; None: nothing is in the edge's memory."""

    sent: Position | None = None
    """The position behind the last request sent; None as above."""

    snapshots: tuple[int, ...] = ()
    """Steps behind which the edge has snapshots."""

    state: str = ""
    """Name of a state to go back to; empty: none, and what is below means nothing."""

    replaces: str = ""
    """Another session of the edge, which it has no more use for then; empty: none."""

    def covers(self, position: Position) -> bool:
        """Return whether the edge can go on from there with what it has in memory."""
        if self.confirmed is None or self.sent is None:
            return False
        return self.confirmed <= position <= self.sent
