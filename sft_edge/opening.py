"""Open the session of a job: net1 gets its numbers, the cloud its share of the cut."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from sft_common.config import BASIS_CUTS, SCALED_ENCODINGS
from sft_common.model.calibration import calibrate
from sft_common.model.loading import set_edge_factor
from sft_edge.client import GrpcSession
from sft_edge.job import Job


def open_session(job: Job) -> GrpcSession:
    """Fill net1 and return the open session.

    Raises:
        SftError: the cloud is not to be reached, or refuses; the message says why.
    """
    job.pretrained.fill_net1(job.net1)
    prepared = job.pretrained.prepared is not None
    needs_basis = job.spec.split.cut in BASIS_CUTS and not prepared
    session = GrpcSession(
        job.access,
        job.spec,
        job.shape,
        max_message_bytes=job.options.max_message * 2**20,
        basis=partial(_basis, job) if needs_basis else None,
        prepared=prepared,
    )
    if session.edge_factor is not None:
        set_edge_factor(job.net1, session.edge_factor)
    return session


def _basis(job: Job) -> tuple[Tensor, Tensor]:
    """Give net1 its share of a basis found in the edge's own data; return the cloud's.

    Only that leaves the edge, mu (N,) and D (R, N); docs/numerics.md says what they tell.
    """
    plan = job.plan
    batches = job.data.train.shuffled(plan.batch_size, seed=plan.seed, epoch=0)
    basis = calibrate(
        job.net1,
        ((batch.inputs, batch.mask) for batch in batches),
        rank=job.spec.split.rank,
        hidden=job.shape.hidden,
        balanced=bool({job.spec.encoding, job.spec.gradient_encoding} & SCALED_ENCODINGS),
        device=job.device,
        source="the training part",
    )
    return basis.mean, basis.decoder
