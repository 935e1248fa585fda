"""Find the basis of a cut in a few batches of the edge's own data, before the session opens.

Only the basis leaves the edge, N + R x N numbers (docs/numerics.md says what they tell).

Legend: T real tokens, N hidden width, R rank.
"""

from __future__ import annotations

from torch import Tensor

from sft_common.errors import ConfigError
from sft_common.model.calibration import LEAST_TOKENS_PER_RANK, calibration_rows
from sft_common.model.cuts import principal_basis
from sft_common.model.loading import set_basis
from sft_edge.job import Job


def calibrate(job: Job) -> tuple[Tensor, Tensor]:
    """Give net1 its share of the basis; return the cloud's, mu (N,) and D (R, N).

    Raises:
        ConfigError: there are too few tokens for the rank.
    """
    plan = job.plan
    batches = job.data.train.shuffled(plan.batch_size, seed=plan.seed, epoch=0)
    rows_TN = calibration_rows(
        job.net1,
        ((batch.inputs, batch.mask) for batch in batches),
        hidden=job.shape.hidden,
        device=job.device,
    )
    found, least = len(rows_TN), LEAST_TOKENS_PER_RANK * job.spec.split.rank
    if found < least:
        raise ConfigError(
            f"the training part has {found} tokens, a basis of rank {job.spec.split.rank} needs at "
            f"least {least}: with fewer it would give single tokens away; choose a smaller --rank"
        )
    basis = principal_basis(rows_TN, job.spec.split.rank)
    set_basis(job.net1, basis)
    return basis.mean, basis.decoder
