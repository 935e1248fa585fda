"""Tensors on their way between this machine's memory and the device; on the CPU they stay.

Copies to a CUDA device go out of pinned memory on a stream of their own, beside what the device
still computes. Nothing here waits for the device but `down`, whose numbers somebody will read.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Transfers:
    """The way to one device and back.

    Args:
        device: where tensors go.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def up(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device; what is computed with it next waits for the copy."""
        if self._stream is None or tensor.is_cuda:
            return tensor
        with torch.cuda.stream(self._stream):
            there = tensor.pin_memory().to(self._device, non_blocking=True)
        user = torch.cuda.current_stream(self._device)
        user.wait_stream(self._stream)
        there.record_stream(user)  # its memory is not given away before that has used it
        return there

    def down(self, tensor: Tensor) -> Tensor:
        """Return a tensor in this machine's memory, once all that was asked for is computed."""
        if self._stream is None or not tensor.is_cuda:
            return tensor
        here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        here.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return here
