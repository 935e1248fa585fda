"""Every error that a person can meet, in one tree. It knows no transport.

SftError                  base: one clear line, no traceback
├── ConfigError           an option or a field of the session is out of its range
├── DataError             a data file is missing, broken, or holds a wrong label
├── ModelError            a model cannot be found, read, or is of an unsupported family
├── DeviceError           the device asked for is not there
├── MismatchError         edge and cloud do not mean the same thing (version, model, digest)
├── ProtocolError         a message is malformed or out of order
├── LimitError            a message is larger than the limit of its receiver
├── CapacityError         the cloud is full: sessions, memory or disk
├── SnapshotError         a snapshot cannot be written or read
├── SessionLostError      the cloud has nothing left of a session from which it could go on
├── AuthenticationError   the cloud does not know who asks: no token, or a wrong one
├── ForbiddenError        the cloud does not do this, or not for this edge
├── TrainingError         training cannot go on: the loss is no number any more
├── UnreachableError      no cloud answers, or the connection was lost
│   └── RetryLaterError   the cloud is about to stop, or has put an idle session away: come back
└── InternalError         a defect of this software; the log has the traceback

A message says what was wrong, both values, and what to do.
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's text, or its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def printable(text: str) -> str:
    """Return a peer's text with nothing in it that moves a cursor or begins a line of its own."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


class SftError(Exception):
    """Base of all errors of this project; its text is meant for the person at the screen."""


class ConfigError(SftError):
    """An option or a field of the session is out of its range."""


class DataError(SftError):
    """A data file is missing, broken, or holds a value that the task does not allow."""


class ModelError(SftError):
    """A model cannot be found or read, or its family is not supported."""


class DeviceError(SftError):
    """The device asked for is not on this machine."""


class MismatchError(SftError):
    """Edge and cloud do not mean the same protocol, model or weights."""


class ProtocolError(SftError):
    """A message is malformed or comes out of order."""


class LimitError(SftError):
    """A message is larger than its receiver takes."""


class CapacityError(SftError):
    """The cloud has no room for one more session."""


class SnapshotError(SftError):
    """A snapshot cannot be written, or what is on the disk is not what was written."""


class SessionLostError(SftError):
    """The cloud does not know a session, or has no state of it that the edge has too."""


class AuthenticationError(SftError):
    """The cloud does not know who asks: no token came, or none that it knows."""


class ForbiddenError(SftError):
    """The cloud does not do this, or not for this edge."""


class TrainingError(SftError):
    """Training cannot go on, such as when the loss is not a finite number."""


class UnreachableError(SftError):
    """No cloud answers at the address, or the connection to it was lost."""


class RetryLaterError(UnreachableError):
    """The cloud ended the connection on purpose, and takes the session up again later."""


class InternalError(SftError):
    """A defect: something failed that no rule of this software foresees."""
