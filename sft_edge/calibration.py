"""Find the basis of a cut in a few batches of the edge's own data, before the session opens.

Only the basis leaves the edge, N + R x N numbers (docs/numerics.md says what they tell).

Legend: T real tokens, N hidden width, R rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sft_common.errors import ConfigError
from sft_common.model.cuts import principal_basis
from sft_common.model.loading import set_basis
from sft_edge.job import Job

LEAST_TOKENS_PER_RANK = 4
"""Fewer tokens would make a basis that says much about each of them."""

TOKENS_PER_CHANNEL = 24
"""Real tokens looked at for each of the N channels of the stream: enough for a stable basis."""


def calibrate(job: Job) -> tuple[Tensor, Tensor]:
    """Give net1 its share of the basis; return the cloud's, mu (N,) and D (R, N).

    Raises:
        ConfigError: there are too few tokens for the rank.
    """
    net1 = job.net1.to(job.device).eval()
    wanted = TOKENS_PER_CHANNEL * job.shape.hidden
    seen: list[Tensor] = []
    hook = net1.block.cut.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    rows: list[Tensor] = []
    with torch.no_grad():
        for batch in job.data.train.shuffled(job.plan.batch_size, seed=job.plan.seed, epoch=0):
            net1({name: value.to(job.device) for name, value in batch.inputs.items()})
            rows.append(seen.pop()[batch.mask.to(job.device)].cpu())
            if sum(map(len, rows)) >= wanted:
                break
    hook.remove()
    found, least = sum(map(len, rows)), LEAST_TOKENS_PER_RANK * job.spec.split.rank
    if found < least:
        raise ConfigError(
            f"the training part has {found} tokens, a basis of rank {job.spec.split.rank} needs at "
            f"least {least}: with fewer it would give single tokens away; choose a smaller --rank"
        )
    basis = principal_basis(torch.cat(rows), job.spec.split.rank)
    set_basis(net1, basis)
    return basis.mean, basis.decoder
