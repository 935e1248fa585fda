"""Open the session of a job: net1 gets its numbers, the cloud its share of the cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sft_common.config import BASIS_CUTS
from sft_common.errors import CapacityError, RetryLaterError, UnreachableError, first_line
from sft_common.model.calibration import calibrate
from sft_common.model.loading import set_edge_factor
from sft_edge.client import GrpcSession
from sft_edge.job import Job
from sft_edge.retrying import Retry, pause

Say = Callable[[str], None]
"""Tells a person a line."""


def open_session(
    job: Job,
    *,
    replaces: str = "",
    say: Say = print,
    stopped: Callable[[], bool] = lambda: False,
) -> GrpcSession:
    """Fill net1 and return the open session; waits for room on the cloud if that is wanted.

    Args:
        job: what to open it for.
        replaces: a session of the same training that comes to nothing.
        say: tells a person.
        stopped: whether not to wait any longer.

    Raises:
        SftError: the cloud is not to be reached, or refuses; the message says why.
    """
    job.pretrained.fill_net1(job.net1)
    prepared = job.pretrained.prepared is not None
    needs_basis = job.spec.split.cut in BASIS_CUTS and not prepared
    open_now = partial(
        _session,
        job,
        basis=partial(_basis, job) if needs_basis else None,
        prepared=prepared,
        replaces=replaces,
    )
    lost = UnreachableError if replaces else RetryLaterError  # it was there a moment ago
    options = job.options
    session = patiently(
        open_now, lost, wait=options.wait, retry=Retry.of(options), say=say, stopped=stopped
    )
    if session.edge_factor is not None:
        set_edge_factor(job.net1, session.edge_factor)
    return session


def take_up_session(
    job: Job,
    session_id: str,
    *,
    say: Say = print,
    stopped: Callable[[], bool] = lambda: False,
) -> GrpcSession:
    """Return a session that another program had; net1 waits for the numbers of a snapshot.

    Raises:
        SessionLostError: edge and cloud have no snapshot in common.
        SftError: as of `open_session`.
    """
    weights = {name: torch.zeros(p.shape) for name, p in job.net1.skeleton.named_parameters()}
    job.pretrained.fill_net1(job.net1, weights)
    retry = Retry.of(job.options)
    wait = max(job.options.wait, retry.for_seconds)
    take_up = partial(_session, job, takes_up=session_id)
    return patiently(take_up, UnreachableError, wait=wait, retry=retry, say=say, stopped=stopped)


def _session(job: Job, **wanted: Any) -> GrpcSession:
    options = job.options
    return GrpcSession(
        job.access,
        job.spec,
        job.shape,
        max_message_bytes=options.max_message * 2**20,
        retry=Retry.of(options),
        snapshots=job.folder.snapshots.steps,
        **wanted,
    )


def patiently(
    attempt: Callable[[], GrpcSession],
    lost: type[UnreachableError],
    *,
    wait: float,
    retry: Retry,
    say: Say,
    stopped: Callable[[], bool],
) -> GrpcSession:
    """Return the session that an attempt makes, tried again while there is hope.

    Args:
        attempt: opens it.
        lost: what says that a cloud is lost and not just not there; after it any silence does.
        wait: how long to wait for room, in seconds.
        retry: how long a cloud that is lost is tried again, and with which pauses.
        say: tells a person.
        stopped: whether to give up.
    """
    pauses, begin, waiting = retry.pauses(), time.monotonic(), False
    while True:
        try:
            session = attempt()
        except (CapacityError, lost) as error:
            seconds = wait if isinstance(error, CapacityError) else retry.for_seconds
            if time.monotonic() - begin >= seconds or stopped():
                raise
            if not waiting:
                say(f"{first_line(error)}; trying again for up to {seconds:g} s")
            waiting, lost = True, UnreachableError
        else:
            session.stream.say, session.stream.stopped = say, stopped
            return session
        pause(next(pauses), stopped=stopped)


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
        balanced=job.spec.scaled,
        device=job.device,
        source="the training part",
    )
    return basis.mean, basis.decoder
