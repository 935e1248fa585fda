"""Into how many micro-batches a batch is cut: a number, or the best of a few that were tried.

More parts hide more of the link and the cloud behind the edge's own work; each costs a little by
itself. Which number is best depends on machines and link, so it is measured: a few steps each, in
turn, at the beginning of a run. It knows no learner and no clock.
"""

from __future__ import annotations

AUTO = "auto"
"""What a person types to have the number found."""

CANDIDATES = (1, 2, 4, 8)

WARM_UP = 2
"""First steps, which do not count: caches are cold, memory is not there yet."""

ROUNDS = 4
"""Steps that each candidate is tried."""


class Pacing:
    """The number of micro-batches of the next step.

    Args:
        count: that number; `AUTO` finds it.
    """

    def __init__(self, count: int | str) -> None:
        self._left = 0 if count != AUTO else WARM_UP + ROUNDS * len(CANDIDATES)
        self.count = CANDIDATES[0] if count == AUTO else int(count)
        self._seconds = dict.fromkeys(CANDIDATES, 0.0)
        self._tokens = dict.fromkeys(CANDIDATES, 0)

    @property
    def settled(self) -> bool:
        """Whether the number changes no more."""
        return not self._left

    def stepped(self, seconds: float, tokens: int) -> None:
        """Learn from a step that was cut into `count`.

        Args:
            seconds: that it took.
            tokens: that it had, without padding.
        """
        if self.settled:
            return
        self._left -= 1
        if self._left < ROUNDS * len(CANDIDATES):
            self._seconds[self.count] += seconds
            self._tokens[self.count] += tokens
        if self._left:
            self.count = CANDIDATES[self._left % len(CANDIDATES)]
        else:
            self.count = min(CANDIDATES, key=self._seconds_per_token)

    def _seconds_per_token(self, count: int) -> float:
        return self._seconds[count] / max(1, self._tokens[count])
