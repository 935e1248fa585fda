"""Find the basis of a cut in a few batches of the edge's own data, before the session opens.

Only the basis leaves the edge: N + R x N numbers, none of them an example's (docs/numerics.md).

Legend: T real tokens, N hidden width, R rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sft_common.model.cuts import principal_basis
from sft_common.model.loading import set_basis
from sft_edge.job import Job

TOKENS_PER_CHANNEL = 24
"""Real tokens looked at for each of the N channels of the stream: enough for a stable basis."""


def calibrate(job: Job) -> tuple[Tensor, Tensor]:
    """Give net1 its share of the basis; return the cloud's, mu (N,) and D (R, N)."""
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
    basis = principal_basis(torch.cat(rows), job.spec.split.rank)
    set_basis(net1, basis)
    return basis.mean, basis.decoder
