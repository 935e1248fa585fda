"""What the split block is about to code, over a few batches: the ground of a basis. Pure torch.

Legend: B batch, M padded length, T real tokens, N hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sft_common.model.partition import Net1

TOKENS_PER_CHANNEL = 24
"""Real tokens looked at for each of the N channels of the stream: enough for a stable basis."""

LEAST_TOKENS_PER_RANK = 4
"""Fewer tokens would make a basis that says much about each of them, and little about others."""


@torch.no_grad()
def calibration_rows(
    net1: Net1,
    batches: Iterable[tuple[dict[str, Tensor], Tensor]],
    *,
    hidden: int,
    device: torch.device,
) -> Tensor:
    """Return the values that the cut codes, of enough real tokens or all there are, (T, N).

    Args:
        net1: with its numbers, but not yet those of its cut; left in evaluation mode on the device.
        batches: inputs of the model, and the mask (B, M) of real tokens.
        hidden: N.
        device: where net1 runs.
    """
    net1.to(device).eval()
    seen: list[Tensor] = []
    hook = net1.block.cut.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    rows: list[Tensor] = []
    for inputs, mask_BM in batches:
        net1({name: value.to(device) for name, value in inputs.items()})
        rows.append(seen.pop()[mask_BM.to(device, torch.bool)].cpu())
        if sum(map(len, rows)) >= TOKENS_PER_CHANNEL * hidden:
            break
    hook.remove()
    return torch.cat(rows)
