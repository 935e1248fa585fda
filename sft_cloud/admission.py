"""Whether one more session fits: places and memory, reserved before anything is loaded.

What a session keeps adds up; the activations of a step do not, since the device computes one
session's step at a time. Of a frozen body it is the other way round: it is there once, and what a
pass leaves behind waits for a gradient that its edge computes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sft_common.errors import CapacityError, LimitError

LATER = "try again later, or have the edge wait with --wait SECONDS"


@dataclass(frozen=True, slots=True)
class Need:
    """What a session takes of a device, in bytes."""

    kept: int
    """All the time: parameters of net2, their gradients and the moments of their optimizer."""

    step: int
    """While one of its steps is computed."""

    shared: str = ""
    """Names what it keeps, if that is a frozen body, which all that say the same have in common;
    empty: all is its own."""

    def words(self) -> str:
        """Return it as people read it."""
        what = "a frozen body" if self.shared else "net2 and its optimizer"
        return f"{_gb(self.kept)} GB for {what}, {_gb(self.step)} GB for a step"


NOTHING = Need(0, 0)


class Admission:
    """The places and the memory of one device.

    Args:
        places: sessions in memory at once that have all of their own; others need memory alone.
        memory_bytes: for all of them.
    """

    def __init__(self, places: int, memory_bytes: int) -> None:
        self.places, self.memory_bytes = places, memory_bytes
        self._taken: list[Need] = []

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return sum(not need.shared for need in self._taken)

    @property
    def sharing(self) -> int:
        """Sessions in memory that take no place."""
        return len(self._taken) - self.taken

    @property
    def taken_bytes(self) -> int:
        """What they need, all together."""
        return _together(self._taken)

    def check(self, need: Need) -> None:
        """Refuse a session for which there is no room now, or never will be.

        Raises:
            CapacityError: not now; says what is free.
            LimitError: never, even on an empty device.
        """
        if _together([need]) > self.memory_bytes:
            raise LimitError(
                f"the session needs {need.words()}; this cloud has {_gb(self.memory_bytes)} GB for "
                "all sessions: choose a higher --split-layer or a smaller --batch-size"
            )
        if not need.shared and self.taken >= self.places:
            raise CapacityError(
                f"this cloud has {self.taken} of {self.places} sessions open; {LATER}, or start "
                "the cloud with a larger --max-sessions"
            )
        free = self.memory_bytes - self.taken_bytes
        if _together([*self._taken, need]) > self.memory_bytes:
            raise CapacityError(
                f"the session needs {need.words()}; {_gb(free)} of {_gb(self.memory_bytes)} GB are "
                f"free beside {len(self._taken)} sessions; {LATER}"
            )

    def take(self, need: Need) -> None:
        """Reserve what was checked."""
        self._taken.append(need)

    def give_back(self, need: Need) -> None:
        """Give back what was reserved."""
        self._taken.remove(need)


def _together(needs: list[Need]) -> int:
    own = [need for need in needs if not need.shared]
    sharing = [need for need in needs if need.shared]
    bodies = {need.shared: need.kept for need in sharing}
    kept = sum(need.kept for need in own) + sum(bodies.values())
    return kept + max((need.step for need in own), default=0) + sum(need.step for need in sharing)


def _gb(size: int) -> str:
    return f"{size / 1e9:,.2f}"
