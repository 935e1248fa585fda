"""Which device net2 runs on, out of --gpu N or --cpu, and in what precision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from sft_common.errors import DeviceError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Name of a precision -> what matrix products are computed in."""


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


def _container_limits() -> Iterator[int]:
    """Yield what the groups of processes that this one is in may take."""
    for path in (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ):
        with contextlib.suppress(OSError, ValueError):
            yield int(Path(path).read_text())


def describe(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"cpu, threads: {torch.get_num_threads()}"
