"""The log of `serve`: lines of text or JSON, each with what it is about: session, federation.

Whatever a peer puts into a message, it stays inside its line. It knows no sessions but their names.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

FORMATS = ("text", "json")

CHATTY = ("httpx", "httpcore", "urllib3", "filelock")
"""Loggers that tell of every request to a hub, with addresses that may be signed."""


class About:
    """What the lines of a task are about.

    Args:
        session: its name.
        step: that came last, or was applied last.
        federation: its name.
    """

    __slots__ = ("federation", "session", "step")

    def __init__(self, session: str = "", step: int | None = None, *, federation: str = "") -> None:
        self.session, self.step, self.federation = session, step, federation

    def extra(self) -> dict[str, Any]:
        """Return it for a line that another task may write (`log.info(..., extra=...)`)."""
        return {"session": self.session, "step": self.step, "federation": self.federation}


NOTHING = About()

_about: ContextVar[About] = ContextVar("what log lines are about", default=NOTHING)


def set_about(about: About) -> None:
    """Have what this task logs from now on, and what it starts, be about a session or federation.

    The step may be changed in `about` itself, which costs a step of a training nothing.
    """
    _about.set(about)


def set_up_logs(kind: str, stream: TextIO = sys.stderr) -> None:
    """Have everything logged go to a stream.

    Args:
        kind: one of `FORMATS`.
        stream: where to.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if kind == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class TextLines(logging.Formatter):
    """Time, level, message, and in brackets what that does not say of session, step, federation.

    A traceback follows with every line of it behind a bar, so that none looks like a log line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = visible(record.getMessage())
        about = about_of(record)
        where = [f"session {about.session}"] if about.session not in message else []
        where += [f"step {about.step}"] if about.session and about.step is not None else []
        where += [f"federation {about.federation}"] if about.federation not in message else []
        text = f"{self.formatTime(record)} {record.levelname} {message}"
        if where:
            text += f" [{', '.join(where)}]"
        trace = "".join(f"\n    | {visible(line)}" for line in _trace(record))
        return text + trace


class JsonLines(logging.Formatter):
    """One JSON object a line; its keys are described in docs/operations.md."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        about = about_of(record)
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if about.session:
            facts["session"] = about.session
            if about.step is not None:
                facts["step"] = about.step
        if about.federation:
            facts["federation"] = about.federation
        if error := _error_class(record):
            facts["error"] = error
        if trace := _trace(record):
            facts["traceback"] = "\n".join(trace)
        return json.dumps(facts)  # ASCII, so nothing in it ends a line


def about_of(record: logging.LogRecord) -> About:
    """Return what a line is about: what it was given with `extra`, else its task's own."""
    given = record.__dict__
    if "session" in given:
        about = About(given["session"], given.get("step"))
        about.federation = given.get("federation", "")
        return about
    return _about.get()


def visible(text: str) -> str:
    """Return a text with every character that is none to be read (line ends, colours) spelled."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _error_class(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0]:
        return record.exc_info[0].__name__
    return str(record.__dict__.get("error", ""))


def _trace(record: logging.LogRecord) -> list[str]:
    if not record.exc_info:
        return []
    return "".join(traceback.format_exception(*record.exc_info)).rstrip("\n").split("\n")
