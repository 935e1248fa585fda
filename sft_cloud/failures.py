"""What an edge is told when something in its session goes wrong, and what the log keeps of it."""

from __future__ import annotations

import logging

import torch

from sft_common.errors import CapacityError, InternalError, SftError, first_line, printable

log = logging.getLogger(__name__)

MAX_LOGGED_CHARACTERS = 1000
"""Of a refusal: a peer may have put anything into it."""


def as_sft_error(error: Exception, whose: str = "a session") -> SftError:
    """Return any error as one that an edge may see, and log it.

    Args:
        error: what happened; called while it is handled.
        whose: what it happened to, for the log.
    """
    if isinstance(error, SftError):
        kind, said = {"error": type(error).__name__}, printable(str(error)[:MAX_LOGGED_CHARACTERS])
        log.warning("%s is refused: %s", whose, said, extra=kind)
        return error
    if _is_out_of_memory(error):
        kind = {"error": CapacityError.__name__}
        log.warning("%s is out of memory: %s", whose, first_line(error), extra=kind)
        return CapacityError(f"the cloud is out of memory: {first_line(error)}")
    log.exception("%s failed", whose)
    return InternalError(
        f"the cloud failed: {type(error).__name__}: {first_line(error)}; its log says where"
    )


def _is_out_of_memory(error: Exception) -> bool:
    """On the CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
