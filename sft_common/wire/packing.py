"""(B, M, W) with right padding <-> (T, W): only real tokens travel. Pure torch.

Legend: B batch, M padded length, T real tokens, W width on the wire.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def lengths_of(attention_mask_BM: Tensor) -> list[int]:
    """Return the real tokens of each example.

    Raises:
        ValueError: an example is empty, or its padding is not on the right.
    """
    mask = attention_mask_BM.bool()
    lengths: list[int] = mask.sum(dim=1).tolist()
    if not torch.equal(mask, mask_of(lengths, mask.shape[1]).to(mask.device)):
        raise ValueError("the attention mask is not of the form 1...10...0: pad on the right")
    if min(lengths, default=0) < 1:
        raise ValueError("an example has no tokens")
    return lengths


def mask_of(lengths: Sequence[int], width: int) -> Tensor:
    """Return the attention mask, shape (B, width), True for real tokens."""
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]


def pack(x_BMW: Tensor, lengths: Sequence[int]) -> Tensor:
    """Drop the padding rows: (B, M, W) -> (T, W), examples one after another. Differentiable."""
    return x_BMW[mask_of(lengths, x_BMW.shape[1]).to(x_BMW.device)]


def unpack(x_TW: Tensor, lengths: Sequence[int]) -> Tensor:
    """Put padding rows of zeros back: (T, W) -> (B, M, W) with M the longest example."""
    width = max(lengths)
    x_BMW = x_TW.new_zeros(len(lengths), width, x_TW.shape[1])
    x_BMW[mask_of(lengths, width).to(x_TW.device)] = x_TW
    return x_BMW
