"""Where net1 runs, out of --device."""

from __future__ import annotations

import torch

from sft_common.errors import DeviceError, first_line
from sft_common.memory import available_bytes, machine_bytes

DEVICE_TYPES = ("cpu", "cuda", "mps")


def device_named(name: str) -> torch.device:
    """Return a device that is there.

    Raises:
        DeviceError: it is not, or is none that net1 runs on.
    """
    try:
        device = torch.device(name)
        if device.type not in DEVICE_TYPES:
            raise RuntimeError(f"choose one of: {', '.join(DEVICE_TYPES)}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"device {name!r} is not to be had on this machine: {first_line(error)}; "
            "use --device cpu"
        ) from error
    return device


def memory_of(device: torch.device) -> tuple[int, int]:
    """Return what is free of a device's memory, and all of it, in bytes.

    Raises:
        OSError: this system does not say what is free.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(free), int(total)
    return available_bytes(), machine_bytes()
