"""A basis for the cut from what the split block is about to code, over a few batches. Pure torch.

Legend: B batch, M padded length, T real tokens, N hidden width, R rank.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sft_common.errors import DataError
from sft_common.model.cuts import Basis, balanced_basis, principal_basis
from sft_common.model.loading import set_basis
from sft_common.model.partition import Net1

TOKENS_PER_CHANNEL = 24
"""Real tokens looked at for each of the N channels of the stream: enough for a stable basis."""

LEAST_TOKENS_PER_RANK = 4
"""Fewer tokens would make a basis that says much about each of them, and little about others."""


def calibrate(
    net1: Net1,
    batches: Iterable[tuple[dict[str, Tensor], Tensor]],
    *,
    rank: int,
    hidden: int,
    balanced: bool,
    device: torch.device,
    source: str,
) -> Basis:
    """Find the basis of a cut and give net1 its share of it.

    Args:
        net1: with its numbers, but not yet those of its cut; left in evaluation mode on the device.
        batches: inputs of the model, and the mask (B, M) of real tokens.
        rank: R.
        hidden: N.
        balanced: whether all numbers of a code will get the same error (`balanced_basis`).
        device: where net1 runs.
        source: what the batches come from, for messages.

    Raises:
        DataError: there are too few tokens for the rank.
    """
    rows_TN = rows_of(net1, batches, hidden, device)
    least = LEAST_TOKENS_PER_RANK * rank
    if len(rows_TN) < least:
        raise DataError(
            f"{source} has {len(rows_TN)} tokens, a basis of rank {rank} needs at least {least}: "
            "with fewer it would give single tokens away; take a smaller --rank or more data"
        )
    find = balanced_basis if balanced else principal_basis
    basis = find(rows_TN, rank)
    set_basis(net1, basis)
    return basis


@torch.no_grad()
def rows_of(
    net1: Net1,
    batches: Iterable[tuple[dict[str, Tensor], Tensor]],
    hidden: int,
    device: torch.device,
) -> Tensor:
    """Return the values that the cut codes, of enough real tokens or all there are, (T, N)."""
    net1.to(device).eval()
    seen: list[Tensor] = []
    hook = net1.block.cut.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    rows = [torch.empty(0, hidden)]
    for inputs, mask_BM in batches:
        net1({name: value.to(device) for name, value in inputs.items()})
        rows.append(seen.pop()[mask_BM.to(device, torch.bool)].cpu())
        if sum(map(len, rows)) >= TOKENS_PER_CHANNEL * hidden:
            break
    hook.remove()
    return torch.cat(rows)
