"""The `train` command: prepare, train split, train unsplit if asked, and keep what came of it.

No results are written before the server has agreed, and what is trained is written before the next
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

from sft_common.errors import TrainingError
from sft_common.model.heads import HEAD_TABLE
from sft_edge.frozen import train_frozen
from sft_edge.job import Job, prepare
from sft_edge.learners import WholeLearner
from sft_edge.planner.command import planned
from sft_edge.recorder import Recorder
from sft_edge.report.writing import report_at_end
from sft_edge.screen import make_screen, print_table
from sft_edge.split_training import train_split
from sft_edge.trainer import Evaluation, train


def run_training(options: argparse.Namespace) -> None:
    """Train with the options of `sft-edge train`.

    Raises:
        SftError: bad input, or the cloud refused or was lost; the message says which.
        OSError: the disk does not take the results.
    """
    transformers.logging.set_verbosity_error()
    job = prepare(options)
    if options.auto:
        job = planned(job)
    with job.folder.locked():
        try:
            metrics = _trained(job)
        except TrainingError:
            if job.folder.has_job:
                report_at_end(job.folder.path)  # shows how it came to that
            raise
        if metrics is None:
            return
        report = report_at_end(job.folder.path)
    if options.json:
        print(json.dumps(metrics, indent=2))
    elif not options.quiet:
        print_table(metrics, str(job.folder.path), report)


def _trained(job: Job) -> dict[str, Any] | None:
    """Do all that was asked for; returns what metrics.json holds, None if that is to come later."""
    options = job.options
    metrics = train_frozen(job) if options.edge == "frozen" else train_split(job)
    if metrics is not None and options.unsplit:
        gc.collect()
        begin = time.perf_counter()
        evaluation = train_unsplit(job)
        metrics["unsplit"] = {"name": evaluation.metric, "value": evaluation.value}
        metrics["unsplit_metrics"] = evaluation.metrics
        metrics["unsplit_seconds"] = round(time.perf_counter() - begin, 3)
        job.folder.save_metrics(metrics)
    return metrics


def train_unsplit(job: Job) -> Evaluation:
    """Train the same model whole, in this process, on the same batches from the same seed."""
    torch.manual_seed(job.spec.seed)
    whole = job.pretrained.whole(seed=job.spec.seed)
    learner = WholeLearner(whole, HEAD_TABLE[job.spec.head], job.spec.optimizer, job.device)
    total = job.plan.total_steps(len(job.data.train))
    with make_screen("unsplit", total, quiet=job.options.quiet) as screen:
        recorder = Recorder(
            job.folder, screen, None, variant="unsplit", log_every=job.options.log_every
        )
        return train(learner, job.data, plan=job.plan, metric=job.task.metric, watcher=recorder)
