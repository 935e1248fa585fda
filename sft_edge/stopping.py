"""Ctrl-C and SIGTERM: the first asks a training to stop at the next step, the second ends it.

It knows no training.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """Somebody asked the training to stop.

    Args:
        step: the last one that was taken.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped behind step {step}")
        self.step = step


class Stopper:
    """Takes the signals while its block runs; does nothing on threads, which get no signals."""

    def __init__(self) -> None:
        self._asked = False
        self._before = {number: signal.getsignal(number) for number in SIGNALS}

    def asked(self) -> bool:
        """Return whether somebody asked to stop."""
        return self._asked

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
