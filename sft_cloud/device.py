"""Which device net2 runs on, out of --gpu N or --cpu, and in what precision."""

from __future__ import annotations

import torch

from sft_common.errors import DeviceError
from sft_common.memory import machine_bytes

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


def check_computes(device: torch.device, precision: str) -> None:
    """Refuse a precision that a device does not have.

    Raises:
        DeviceError: says what it has.
    """
    old = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    if precision == "bfloat16" and old:
        raise DeviceError(
            f"the script computes under autocast to bfloat16, which the cloud's {describe(device)} "
            "does not have; use float16 there, with a GradScaler"
        )


def memory_bytes(device: torch.device) -> int:
    """Return all memory of a device, free or not: the GPU's, or this machine's or container's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine_bytes()


def describe(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return f"cpu, threads: {torch.get_num_threads()}"
