"""How much memory there is, and is free: of this machine, or of the container around us."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """Where the kernel keeps the memory of a group of processes."""

    folder: Path
    limit: str
    used: str
    cached: str


GROUPS = (
    Group(Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    Group(
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Of a container, by version 2 and 1 of control groups."""


def machine_bytes() -> int:
    """Return all memory, free or not: this machine's, or the container's where that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_container_limits()])


def available_bytes() -> int:
    """Return what is free of this machine's memory, or of the container's where that is less.

    Raises:
        OSError: the system does not say so as Linux does.
    """
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    machine = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return min([machine * 1024, *_container_rests()])


def _container_limits() -> Iterator[int]:
    """Yield what the groups of processes that this one is in may take."""
    for group in GROUPS:
        with contextlib.suppress(OSError, ValueError):
            yield int((group.folder / group.limit).read_text())


def _container_rests() -> Iterator[int]:
    """Yield what they may still take; copies of files that nobody uses give way."""
    for group in GROUPS:
        with contextlib.suppress(OSError, ValueError):
            limit, used = (int((group.folder / name).read_text()) for name in group[1:3])
            lines = (group.folder / "memory.stat").read_text().splitlines()
            cached = dict(line.split() for line in lines).get(group.cached, 0)
            yield max(0, limit - used + int(cached))
