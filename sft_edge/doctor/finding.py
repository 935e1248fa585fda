"""What a check found, and how it is shown. It knows no check."""

from __future__ import annotations

import enum
import queue
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sft_common.errors import SftError, first_line

T = TypeVar("T")


class Verdict(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    SKIPPED = "skipped"
    """The check could not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    verdict: Verdict

    check: str
    """Its name."""

    found: str
    """What there is, in one line; of a check that was skipped, why."""

    advice: str = ""
    """What to do, in one line; empty if nothing is."""

    def lines(self) -> str:
        """Return it as people read it."""
        below = f"\n{'':9}{self.advice}" if self.advice else ""
        return f"{self.verdict.value:9}{self.check}: {self.found}{below}"

    def facts(self) -> dict[str, Any]:
        """Return it as JSON says it."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(Verdict.OK, check, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Return what works, but badly, or not for long."""
    return Finding(Verdict.WARNING, check, found, advice)


def wrong(check: str, found: str, advice: str) -> Finding:
    """Return what no training can go on with."""
    return Finding(Verdict.WRONG, check, found, advice)


def skipped(check: str, why: str) -> Finding:
    """Return that a check could not run."""
    return Finding(Verdict.SKIPPED, check, why)


def checked(check: str, look: Callable[[], Finding]) -> Finding:
    """Return what a check finds; one that fails says why, and stops no other."""
    try:
        return look()
    except SftError as error:
        return wrong(check, str(error), "")
    except Exception as error:
        return skipped(check, f"could not be checked: {first_line(error)}")


def within(seconds: float, look: Callable[[], T]) -> T:
    """Return what a function does that might wait for others; what it began goes on by itself.

    Raises:
        TimeoutError: it took longer than that.
        Exception: whatever the function does.
    """
    came: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            came.put(look())
        except Exception as error:
            came.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        found = came.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"it took longer than {seconds:g} s (--connect-timeout)") from None
    if isinstance(found, Exception):
        raise found
    return found
