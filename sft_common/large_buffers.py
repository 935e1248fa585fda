"""Have the C library keep large buffers for the next use. It knows nothing of what is in them.

glibc takes a buffer over a limit straight from the system and gives it straight back, so that every
large tensor and message is written to pages that have yet to be found, which takes longer than the
writing.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

LARGEST = 32 * 2**20
"""Buffers up to here are kept; glibc takes no higher limit."""

KEPT = 512 * 2**20
"""Free memory at the end of the heap that is kept."""


def keep_large_buffers() -> bool:
    """Raise glibc's limits for this process; returns False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST) and mallopt(_M_TRIM_THRESHOLD, KEPT))
