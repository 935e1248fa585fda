"""What the machine is on which net1 runs. Nothing in it names the machine or who uses it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from sft_common.memory import machine_bytes


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Return what metrics.json says of this machine.

    Args:
        device: where net1 runs.
    """
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory_bytes(),
        "device": device_name(device),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _memory_bytes() -> int | None:
    try:
        return machine_bytes()
    except (OSError, ValueError):  # a system that does not tell
        return None


def device_name(device: torch.device) -> str:
    """Return what a device is called, for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
