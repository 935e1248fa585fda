"""How long an edge takes by itself for a step, as the cloud sees it. It has no clock.

Between an answer that is handed to the stream and the next request that has come whole lie both
ways over the link, the edge's backward pass, its update and its next forward pass. A request that
came before the answer, as of another micro-batch, was not waited for and adds nothing.
"""

from __future__ import annotations

from collections import deque
from statistics import median

STEPS = 5
"""The newest ones, of which the median counts: a pause says nothing of the steps around it."""


class Away:
    """What is known of one edge; times are seconds on any one clock."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        """A step's, of the newest in the median; None: no whole step was seen yet."""

        self._steps = deque[float](maxlen=STEPS)
        self._step: float | None = None
        self._left = 0.0

    def came(self, now: float, *, begins: bool) -> None:
        """Notice a request that the edge computed something for.

        Args:
            now: when it was there.
            begins: whether a step begins with it; the way to it belongs to the last one.
        """
        if self._step is not None:
            self._step += max(0.0, now - self._left)
        if begins:
            if self._step is not None:
                self._steps.append(self._step)
                self.seconds = median(self._steps)
            self._step = 0.0

    def answered(self, now: float) -> None:
        """Notice that the edge has what it waits for."""
        self._left = now

    def interrupted(self) -> None:
        """Leave out the step up to now: the edge did something else besides."""
        self._step = None
