"""Which device net2 runs on, out of --gpu N or --cpu, and in what precision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from sft_common.errors import DeviceError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Name of a precision -> what matrix products are computed in."""


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


def choose_device(gpu: int | None, *, cpu: bool) -> torch.device:
    """Return the device: the GPU asked for, the CPU, or GPU 0 where there is one.

    Raises:
        DeviceError: that GPU is not on this machine.
    """
    present = torch.cuda.device_count()
    if cpu or (gpu is None and present == 0):
        return torch.device("cpu")
    wanted = 0 if gpu is None else gpu
    if not 0 <= wanted < present:
        raise DeviceError(
            f"GPU {wanted} was asked for, but torch {torch.__version__} sees {present} here; "
            "use --cpu, or install the driver and a CUDA build of torch"
        )
    return torch.device("cuda", wanted)


def memory_bytes(device: torch.device) -> int:
    """Return all memory of a device, free or not: the GPU's, or this machine's or container's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_container_limits()])


def available_bytes() -> int:
    """Return what is free of this machine's memory, or of the container's where that is less."""
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


def describe(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"cpu, threads: {torch.get_num_threads()}"
