"""A frozen edge: each activation is sent once, the cloud trains alone, the result is fetched later.

Net1 and its share of the cut keep their numbers and have no dropout, so the activation of an
example is the same in every epoch, and no gradient has to come back.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import torch

from sft_common.commandline import Stopped
from sft_common.errors import SessionLostError, TrainingError
from sft_common.model.heads import HEAD_TABLE
from sft_common.plan import planned_steps
from sft_common.wire.packing import pack
from sft_edge.client import GrpcSession
from sft_edge.fetching import fetch
from sft_edge.job import Job
from sft_edge.opening import open_session
from sft_edge.remote import Rewound
from sft_edge.retrying import Retry, pause
from sft_edge.screen import make_screen
from sft_edge.tasks.batches import Dataset
from sft_edge.trained import job_facts


def train_frozen(job: Job) -> dict[str, Any] | None:
    """Send every example once, have the cloud train, and wait for the result.

    A cloud that has lost what it was sent gets everything once more.

    Returns:
        What metrics.json holds; None if the edge is to leave before that.

    Raises:
        Stopped: somebody stopped it; says how to go on.
        SftError: the cloud refused or was lost, or the training failed.
    """
    options, pauses = job.options, Retry.of(job.options).pauses()
    session_id = options.session_id if options.resume else ""
    if not (options.resume and job.folder.has_job):
        session_id = _send_all(job, replaces=session_id)
    way_on = f"sft-edge fetch --run {job.folder.path}"
    while not options.detach:
        try:
            return fetch(job.folder, options, access=job.access)
        except SessionLostError as lost:
            _say(job, f"{lost}; sending all examples again")
            pause(next(pauses))
            session_id = _send_all(job, replaces=session_id)
        except TrainingError:
            job.folder.finish()  # it would end so again
            raise
        except KeyboardInterrupt:
            raise Stopped(f"stopped; the cloud goes on alone, come back with: {way_on}") from None
    if not options.quiet:
        print(f"all examples are sent; the cloud goes on alone. Come back with: {way_on}")
    return None


def _send_all(job: Job, replaces: str) -> str:
    """Send every example, and have the cloud begin; returns the name of the session."""
    pauses = Retry.of(job.options).pauses()
    try:
        while True:
            session = _open(job, replaces)
            try:
                job.folder.begin(job.options, session.session_id)
                _send_and_begin(job, session)
                return session.session_id
            except SessionLostError as lost:
                _say(job, f"{lost}; sending all examples again")
                pause(next(pauses))
                replaces = session.session_id
            finally:
                session.abandon()
    finally:
        job.folder.discard_if_empty()


def _open(job: Job, replaces: str) -> GrpcSession:
    return open_session(job, replaces=replaces, say=partial(_say, job))


def _say(job: Job, line: str) -> None:
    if not job.options.quiet:
        print(line, file=sys.stderr)


def _send_and_begin(job: Job, session: GrpcSession) -> None:
    """Send what the cloud has not got yet, whatever breaks, and have it begin.

    What is needed to come back is written before: whoever is killed in between does.
    """
    begin, done = time.perf_counter(), 0
    while True:
        try:
            _send(job, session, done)
            job.folder.save_edge(dict(job.net1.skeleton.named_parameters()))
            _save_job(job, session, time.perf_counter() - begin)
            session.run(job.plan)
        except Rewound as rewound:
            done = rewound.stored
        else:
            _save_job(job, session, time.perf_counter() - begin)
            return


def _save_job(job: Job, session: GrpcSession, seconds: float) -> None:
    traffic, facts = session.traffic, job_facts(job, session)
    facts["frozen"] = {
        "edge_seconds": seconds - traffic.wire_seconds,
        "wire_seconds": traffic.wire_seconds,
        "bytes_up": traffic.bytes_up,
        "bytes_down": traffic.bytes_down,
        "padded_training_tokens": _padded_tokens(job),
        "total_steps": job.plan.total_steps(len(job.data.train)),
    }
    job.folder.save_job(facts)


@torch.no_grad()
def _send(job: Job, session: GrpcSession, done: int) -> None:
    """Send all batches of examples but those that are done."""
    net1 = job.net1.to(job.device).eval()
    labelled = HEAD_TABLE[job.spec.head].next_token
    parts: list[tuple[int, Dataset, bool]] = [
        (0, job.data.train, True),
        *(
            (number, part.data, labelled)
            for number, part in enumerate(job.data.validation.values(), start=1)
        ),
    ]
    batches = sum(-(-len(data) // job.plan.batch_size) for _, data, _ in parts)
    with make_screen("sending", batches, quiet=job.options.quiet, unit="batch") as screen:
        count = 0
        for number, data, with_labels in parts:
            for batch in data.in_order(job.plan.batch_size):
                count += 1
                if count <= done:
                    continue
                activation = net1({n: t.to(job.device) for n, t in batch.inputs.items()})
                labels = batch.labels if with_labels else []
                session.store(number, pack(activation, batch.mask), batch.lengths, labels)
                screen.advance(count, None, session.traffic.bytes_up / count / 1e3)


def _padded_tokens(job: Job) -> int:
    """Return the tokens, padding included, that plain split learning would send in training."""
    lengths = job.data.train.all_lengths()
    return sum(
        len(step.rows) * max(lengths[row] for row in step.rows)
        for step in planned_steps(job.plan, lengths)
    )
