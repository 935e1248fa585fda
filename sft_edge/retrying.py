"""How long and how often a lost cloud is tried again: pauses that grow, each of a random length.

Full jitter: many edges that lost one cloud do not come back at the same moment.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sft_common.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """The limits of trying again."""

    for_seconds: float = 3600.0
    """Give up after so long; 0 tries only once."""

    first_seconds: float = 0.5
    """The longest first pause; each next one may be twice as long."""

    most_seconds: float = 30.0
    """The longest pause."""

    def __post_init__(self) -> None:
        if not 0 < self.first_seconds <= self.most_seconds:
            raise ConfigError(
                f"the first pause is {self.first_seconds:g} s, the longest "
                f"{self.most_seconds:g} s; the first must be above 0 and no longer"
            )

    def pauses(self, draw: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
        """Yield pauses in seconds, without end: each between 0 and a limit that doubles."""
        limit = self.first_seconds
        while True:
            yield draw(0, limit)
            limit = min(2 * limit, self.most_seconds)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Retry:
        """Return what `--retry-for` and `--retry-pause` say."""
        return cls(for_seconds=options.retry_for, most_seconds=options.retry_pause)


ONCE = Retry(for_seconds=0)
"""No trying again."""


def pause(seconds: float, *, stopped: Callable[[], bool] = lambda: False) -> None:
    """Wait, but no longer than until somebody wants to stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, 0.1))
