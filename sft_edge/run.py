"""The `train` command: put task, model, session and trainer together, and write what they did.

Everything that can be wrong on this side is looked at before the server is bothered, and nothing is
written before the server has agreed.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
import transformers

from sft_common import __version__
from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, DeviceError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1
from sft_common.model.sources import Source, find_model
from sft_edge.client import GrpcSession
from sft_edge.learners import SplitLearner, WholeLearner
from sft_edge.recorder import Recorder
from sft_edge.run_folder import RunFolder
from sft_edge.screen import make_screen, print_table
from sft_edge.tasks.batches import TokenizedExamples, load_tokenizer
from sft_edge.tasks.examples import load_examples
from sft_edge.tasks.table import Task, find_task
from sft_edge.trainer import Evaluation, Plan, train

ENCODING = "float32"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs, looked at and loaded, before the server is asked."""

    options: argparse.Namespace
    task: Task
    source: Source
    pretrained: Pretrained
    shape: ModelShape
    spec: SessionSpec
    net1: Net1
    """On the meta device."""
    data: TokenizedExamples
    validation: TokenizedExamples
    plan: Plan
    device: torch.device
    folder: RunFolder


def run_training(options: argparse.Namespace) -> None:
    """Train with the options of `sft-edge train`.

    Raises:
        SftError: bad input, or the cloud refused or was lost; the message says which.
    """
    transformers.logging.set_verbosity_error()
    job = prepare(options)
    metrics, unsplit_begin = train_split(job), time.perf_counter()
    if options.unsplit:
        gc.collect()
        evaluation = train_unsplit(job)
        metrics["unsplit"] = {"name": evaluation.metric, "value": evaluation.value}
        metrics["unsplit_seconds"] = round(time.perf_counter() - unsplit_begin, 3)
    job.folder.save_metrics(metrics)
    if options.json:
        print(json.dumps(metrics, indent=2))
    elif not options.quiet:
        print_table(metrics, str(job.folder.path))


def prepare(options: argparse.Namespace) -> Job:
    """Check the options and load what they name.

    Raises:
        SftError: what is wrong with them.
    """
    task = find_task(options.task)
    device = _device(options.device)
    source = find_model(options.model or task.model)
    pretrained = Pretrained(source.folder, num_labels=len(task.labels), dropout=options.dropout)
    shape = shape_of(pretrained.config)
    split = SplitSpec(
        cut=options.cut,
        split_layer=shape.blocks - 1 if options.split_layer is None else options.split_layer,
        rank=options.rank,
    )
    split.check(shape)
    folder = RunFolder(options.runs_dir, options.name or _default_name(task, split))
    net1 = pretrained.net1(split)
    data, validation = _load_data(options, task, source, shape)
    return Job(
        options=options,
        task=task,
        source=source,
        pretrained=pretrained,
        shape=shape,
        spec=SessionSpec(
            model=pretrained.identity(_name_for(options.server, source), source.revision),
            split=split,
            num_labels=len(task.labels),
            seed=options.seed,
            dropout=options.dropout,
        ),
        net1=net1,
        data=data,
        validation=validation,
        plan=_plan(options, task),
        device=device,
        folder=folder,
    )


def train_split(job: Job) -> dict[str, Any]:
    """Train net1 here and net2 on the cloud; returns what metrics.json holds, `unsplit` empty."""
    session = GrpcSession(
        job.options.server, job.spec, job.shape, connect_seconds=job.options.connect_timeout
    )
    try:
        job.folder.create()
        job.pretrained.fill_net1(job.net1, job.spec.split, session.edge_factor)
        torch.manual_seed(job.spec.seed)
        learner = SplitLearner(job.net1, session, job.spec.optimizer, job.device)
        begin = time.perf_counter()
        recorder, evaluation = _train(job, learner, "split", session)
        seconds = time.perf_counter() - begin
        closing = session.close()
    finally:
        session.abandon()
    job.folder.save_edge(dict(job.net1.skeleton.named_parameters()))
    return _metrics(job, session, recorder, evaluation, seconds) | {"cloud_saved": closing.saved}


def train_unsplit(job: Job) -> Evaluation:
    """Train the same model whole, in this process, on the same batches from the same seed."""
    torch.manual_seed(job.spec.seed)
    whole = job.pretrained.whole(seed=job.spec.seed)
    learner = WholeLearner(whole, job.spec.optimizer, job.device)
    return _train(job, learner, "unsplit", None)[1]


def _train(
    job: Job,
    learner: SplitLearner | WholeLearner,
    half: str,
    session: GrpcSession | None,
) -> tuple[Recorder, Evaluation]:
    total = job.plan.total_steps(len(job.data))
    with make_screen(half, total, quiet=job.options.quiet) as screen:
        if session is not None:
            screen.say(
                f"session {session.session_id} with {job.options.server} ({session.device}): "
                f"{job.source.name}, {job.spec.split.cut} cut in block "
                f"{job.spec.split.split_layer} of {job.shape.blocks}, "
                f"{len(job.data)} examples, {total} steps"
            )
        recorder = Recorder(
            job.folder,
            screen,
            session.traffic if session else None,
            half=half,
            log_every=job.options.log_every,
        )
        evaluation = train(
            learner,
            job.data,
            job.validation,
            plan=job.plan,
            metric=job.task.metric,
            watcher=recorder,
        )
    return recorder, evaluation


def _metrics(
    job: Job, session: GrpcSession, recorder: Recorder, evaluation: Evaluation, total: float
) -> dict[str, Any]:
    traffic, split = session.traffic, job.spec.split
    plain_up, plain_down = recorder.split_learning_bytes(job.shape.hidden, job.spec.num_labels)
    moved = traffic.bytes_up + traffic.bytes_down
    return {
        "task": job.task.name,
        "model": job.source.name,
        "cut": split.cut,
        "split_layer": split.split_layer,
        "rank": None if split.cut == "none" else split.rank,
        "encoding": ENCODING,
        "steps": recorder.steps,
        "epochs": job.plan.epochs,
        "examples": len(job.data),
        "metric": {"name": evaluation.metric, "value": evaluation.value},
        "unsplit": None,
        "bytes": {
            "up": traffic.bytes_up,
            "down": traffic.bytes_down,
            "split_learning_up": plain_up,
            "split_learning_down": plain_down,
            "reduction": round((plain_up + plain_down) / moved, 3),
        },
        "seconds": {
            "total": round(total, 3),
            "edge": round(total - traffic.wait_seconds, 3),
            "wire": round(traffic.wait_seconds - traffic.cloud_seconds, 3),
            "cloud": round(traffic.cloud_seconds, 3),
        },
        "peak_rss_bytes": {"edge": _peak_rss_bytes()},
        "validation_loss": evaluation.loss,
        "session_id": session.session_id,
        "cloud_device": session.device,
        "seed": job.spec.seed,
        "batch_size": job.plan.batch_size,
        "learning_rate": job.plan.learning_rate,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "sft": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _load_data(
    options: argparse.Namespace, task: Task, source: Source, shape: ModelShape
) -> tuple[TokenizedExamples, TokenizedExamples]:
    max_length = options.max_length or min(task.max_length, shape.positions)
    if max_length > shape.positions:
        raise ConfigError(
            f"--max-length {max_length} is over the {shape.positions} tokens "
            f"that {source.name} takes"
        )
    examples = load_examples(
        task,
        options.data,
        train_limit=options.train_examples,
        eval_limit=options.eval_examples,
    )
    tokenizer = load_tokenizer(source.folder)
    return (
        TokenizedExamples(examples.train, tokenizer, max_length),
        TokenizedExamples(examples.validation, tokenizer, max_length),
    )


def _plan(options: argparse.Namespace, task: Task) -> Plan:
    return Plan(
        epochs=options.epochs or task.epochs,
        max_steps=options.max_steps,
        batch_size=options.batch_size or task.batch_size,
        learning_rate=(
            task.learning_rate if options.learning_rate is None else options.learning_rate
        ),
        seed=options.seed,
    )


def _name_for(server: str, source: Source) -> str:
    """Return what to call the model towards the cloud.

    A path means something only to a cloud on this very machine; others get the folder's own name,
    and learn nothing about this machine.
    """
    host = server.rpartition(":")[0].strip("[]")
    is_folder = source.folder.name == source.name
    if is_folder and host in ("localhost", "127.0.0.1", "::1"):
        return str(source.folder)
    return source.name


def _default_name(task: Task, split: SplitSpec) -> str:
    rank = "" if split.cut == "none" else f"-r{split.rank}"
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{task.name}-{split.cut}-l{split.split_layer}{rank}-{now}"


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"device {name!r} is not to be had on this machine: "
            f"{str(error).strip().splitlines()[0]}; use --device cpu"
        ) from error
    return device
