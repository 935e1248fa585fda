"""(B, M, W) with padding <-> (T, W): only real tokens travel. Pure torch.

Padding may be on either side where rows are dropped; where they are put back it is on the right.

Legend: B batch, M padded length, T real tokens, W width on the wire.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mask_of(lengths: Sequence[int], width: int) -> Tensor:
    """Return the attention mask with padding on the right, (B, width), True for real tokens."""
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]


def pack(x_BMW: Tensor, mask_BM: Tensor) -> Tensor:
    """Drop the padding rows: (B, M, W) -> (T, W), examples one after another. Differentiable.

    Without padding the memory is shared.

    Args:
        x_BMW: any values.
        mask_BM: true for real tokens, wherever they are; best on the CPU.
    """
    if mask_BM.all():
        return x_BMW.flatten(0, 1)  # no padding: nothing to copy
    return x_BMW.flatten(0, 1).index_select(0, _real_rows(mask_BM, x_BMW.device))


def unpack(x_TW: Tensor, lengths: Sequence[int]) -> Tensor:
    """Put padding rows of zeros back: (T, W) -> (B, M, W) with M the longest example.

    Without padding the memory is shared.
    """
    width = max(lengths)
    if min(lengths) == width:
        return x_TW.reshape(len(lengths), width, x_TW.shape[1])  # no padding: nothing to copy
    x_BMW = x_TW.new_zeros(len(lengths), width, x_TW.shape[1])
    rows = _real_rows(mask_of(lengths, width), x_TW.device)
    x_BMW.flatten(0, 1).index_copy_(0, rows, x_TW)
    return x_BMW


def spread(x_TW: Tensor, mask_BM: Tensor) -> Tensor:
    """Put padding rows of zeros back where a mask has them: (T, W) -> (B, M, W). Differentiable.

    Args:
        x_TW: any values.
        mask_BM: true for real tokens, wherever they are; best on the CPU.
    """
    x_BMW = x_TW.new_zeros(mask_BM.numel(), x_TW.shape[1])
    rows = _real_rows(mask_BM, x_TW.device)
    return x_BMW.index_copy(0, rows, x_TW).reshape(*mask_BM.shape, -1)


def _real_rows(mask_BM: Tensor, device: torch.device) -> Tensor:
    """Return the numbers of the rows that hold real tokens, (T,).

    Out of a mask on the CPU they are found without waiting for the device.
    """
    rows = mask_BM.flatten().nonzero().squeeze(1)
    if device.type == "cuda" and not rows.is_cuda:
        rows = rows.pin_memory()
    return rows.to(device, non_blocking=True)
