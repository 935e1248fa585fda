"""Soft prompts: where they stand in a sequence, and what they start from. Pure torch.

They follow the first token, so that positions of real tokens and what is pooled stay as they are.

Legend: B batch, M sequence, N hidden width, k prompts.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

SPREAD = 0.1
"""Prompts start between -0.1 and 0.1 (SFPrompt)."""


def first_prompts(count: int, hidden: int, seed: int) -> Tensor:
    """Return what k prompts start from, (k, N): uniform(-0.1, 0.1)."""
    generator = torch.Generator().manual_seed(seed ^ zlib.crc32(b"prompts"))
    return torch.empty(count, hidden).uniform_(-SPREAD, SPREAD, generator=generator)


def with_prompts(stream_BMN: Tensor, prompts_kN: Tensor) -> Tensor:
    """Return a stream with the prompts behind the first token, (B, M + k, N). Differentiable."""
    prompts_BkN = prompts_kN.expand(len(stream_BMN), *prompts_kN.shape)
    return torch.cat([stream_BMN[:, :1], prompts_BkN, stream_BMN[:, 1:]], dim=1)


def mask_with_prompts(mask_BM: Tensor, count: int) -> Tensor:
    """Return a mask with k ones behind the first token, (B, M + k)."""
    ones_Bk = mask_BM.new_ones(len(mask_BM), count)
    return torch.cat([mask_BM[:, :1], ones_Bk, mask_BM[:, 1:]], dim=1)


def without_prompts(rows_BMC: Tensor, count: int) -> Tensor:
    """Return what was made of each token, (B, M, C), of (B, M + k, C). Differentiable."""
    return torch.cat([rows_BMC[:, :1], rows_BMC[:, 1 + count :]], dim=1)
