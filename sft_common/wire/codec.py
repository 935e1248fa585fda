"""Tensor <-> pb.Tensor: type, shape and size are checked before a byte is trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sft_common.errors import ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb


def tensor_to_proto(tensor: Tensor) -> pb.Tensor:
    """Return a message with the numbers of a float32 tensor of any shape and device."""
    assert tensor.dtype == torch.float32
    array = tensor.detach().cpu().contiguous().numpy().astype("<f4", copy=False)
    return pb.Tensor(
        data=array.tobytes(),
        shape=tensor.shape,
        element_type=pb.ELEMENT_TYPE_FLOAT32,
    )


def tensor_from_proto(message: pb.Tensor, expected: Sequence[int], what: str) -> Tensor:
    """Return the tensor of a message as float32 on the CPU; it owns its memory.

    Args:
        message: as it came from the peer.
        expected: the shape that it must have.
        what: its name in error messages.

    Raises:
        ProtocolError: another element type, shape or number of bytes than expected.
    """
    if message.element_type != pb.ELEMENT_TYPE_FLOAT32:
        raise ProtocolError(
            f"{what} has element type {message.element_type}; "
            f"only float32 ({pb.ELEMENT_TYPE_FLOAT32}) is spoken here"
        )
    if list(message.shape) != list(expected):
        raise ProtocolError(f"{what} has shape {tuple(message.shape)}, expected {tuple(expected)}")
    size = math.prod(expected) * torch.float32.itemsize
    if len(message.data) != size:
        raise ProtocolError(
            f"{what} of shape {tuple(expected)} has {len(message.data)} bytes, expected {size}"
        )
    array = np.frombuffer(message.data, dtype="<f4").astype(np.float32)
    return torch.from_numpy(array).reshape(tuple(expected))
