"""The `train` command: prepare, train split, train unsplit if asked, and keep what came of it.

Nothing is written before the server has agreed, and what is trained is written before the next
thing can fail.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from typing import Any

import torch
import transformers

from sft_common.errors import SftError, TrainingError, first_line
from sft_common.model.heads import HEAD_TABLE
from sft_edge.client import GrpcSession
from sft_edge.defaults import MICRO_BATCHES
from sft_edge.frozen import fetch, train_frozen
from sft_edge.job import Job, prepare
from sft_edge.learners import Learner, SplitLearner, WholeLearner
from sft_edge.opening import open_session
from sft_edge.outcome import breakdown_of, outcome, seconds_of
from sft_edge.pacing import Pacing
from sft_edge.recorder import Recorder
from sft_edge.run_folder import EDGE_FILE
from sft_edge.screen import make_screen, print_table
from sft_edge.trained import job_facts
from sft_edge.trainer import Diverged, Evaluation, train


def run_training(options: argparse.Namespace) -> None:
    """Train with the options of `sft-edge train`.

    Raises:
        SftError: bad input, or the cloud refused or was lost; the message says which.
        OSError: the disk does not take the results.
    """
    transformers.logging.set_verbosity_error()
    job = prepare(options)
    if options.edge == "frozen":
        if not train_frozen(job):
            return
        metrics = fetch(job.folder, options, access=job.access)
    else:
        metrics = train_split(job)
    if options.unsplit:
        gc.collect()
        begin = time.perf_counter()
        evaluation = train_unsplit(job)
        metrics["unsplit"] = {"name": evaluation.metric, "value": evaluation.value}
        metrics["unsplit_metrics"] = evaluation.metrics
        metrics["unsplit_seconds"] = round(time.perf_counter() - begin, 3)
        job.folder.save_metrics(metrics)
    if options.json:
        print(json.dumps(metrics, indent=2))
    elif not options.quiet:
        print_table(metrics, str(job.folder.path))


def train_split(job: Job) -> dict[str, Any]:
    """Train net1 here and net2 on the cloud; returns what metrics.json then holds."""
    session = open_session(job)
    try:
        job.folder.create()
        torch.manual_seed(job.spec.seed)
        head = HEAD_TABLE[job.spec.head]
        pacing = Pacing(job.options.micro_batches or MICRO_BATCHES)
        learner = SplitLearner(
            job.net1,
            session,
            head,
            job.spec.optimizer,
            job.device,
            pacing=pacing,
        )
        begin = time.perf_counter()
        try:
            recorder, evaluation = _train(job, learner, "split", session)
        except Diverged as diverged:
            raise TrainingError(f"{diverged}; {_keep_snapshot(job, session, diverged)}") from None
        learner.settle()
        seconds = time.perf_counter() - begin
        facts = job_facts(job, session)
        job.folder.save_job(facts)
        job.folder.save_edge(dict(job.net1.skeleton.named_parameters()))
        spent = seconds_of(session.traffic, seconds)
        metrics = outcome(facts["known"], recorder, evaluation, session.traffic, spent)
        metrics["micro_batches"] = pacing.count if pacing.settled else None
        metrics["breakdown"] = breakdown_of(session.traffic, seconds)
        job.folder.save_metrics(metrics)
        metrics["cloud_saved"] = session.close().saved
        job.folder.save_metrics(metrics)
    finally:
        session.abandon()
        job.folder.discard_if_empty()
    return metrics


def _keep_snapshot(job: Job, session: GrpcSession, diverged: Diverged) -> str:
    """Keep both halves as they were before the step that failed; returns where they are."""
    if diverged.step == 1:
        return "nothing was trained before, so there is no snapshot"
    weights = dict(job.net1.skeleton.named_parameters())
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        return "there is no good snapshot: the weights of net1 are no numbers any more"
    job.folder.save_job(job_facts(job, session))
    job.folder.save_edge(weights)
    return (
        f"the last good snapshot is of step {diverged.step - 1}: "
        f"{job.folder.path / EDGE_FILE} here, on the cloud {_kept_there(session)}"
    )


def _kept_there(session: GrpcSession) -> str:
    try:
        kept = session.close().saved
    except SftError as error:
        return f"none ({first_line(error)})"
    return f"session {session.session_id}" if kept else "none (it keeps none: no --save-dir?)"


def train_unsplit(job: Job) -> Evaluation:
    """Train the same model whole, in this process, on the same batches from the same seed."""
    torch.manual_seed(job.spec.seed)
    whole = job.pretrained.whole(seed=job.spec.seed)
    learner = WholeLearner(whole, HEAD_TABLE[job.spec.head], job.spec.optimizer, job.device)
    return _train(job, learner, "unsplit", None)[1]


def _train(
    job: Job, learner: Learner, variant: str, session: GrpcSession | None
) -> tuple[Recorder, Evaluation]:
    total = job.plan.total_steps(len(job.data.train))
    with make_screen(variant, total, quiet=job.options.quiet) as screen:
        if session is not None:
            screen.say(_headline(job, session, total))
        recorder = Recorder(
            job.folder,
            screen,
            session.traffic if session else None,
            variant=variant,
            log_every=job.options.log_every,
        )
        evaluation = train(
            learner,
            job.data,
            plan=job.plan,
            metric=job.task.metric,
            watcher=recorder,
        )
    return recorder, evaluation


def _headline(job: Job, session: GrpcSession, total: int) -> str:
    split = job.spec.split
    return (
        f"session {session.session_id} with {job.options.server} ({session.device}): "
        f"{job.source.name}, {split.cut} cut in block {split.split_layer} of {job.shape.blocks}, "
        f"{len(job.data.train)} examples, {total} steps"
    )
