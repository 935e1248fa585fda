"""A finished run, ready to be used again: its folder read, its net1 filled, its cloud asked.

What `train` leaves in job.json and edge.safetensors is all that is needed, beside the pre-trained
model's configuration and tokenizer, and the cloud that kept the other half.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, first_line
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1
from sft_common.model.sources import Source, find_model
from sft_common.rpc.access import Access
from sft_common.rpc.options import MAX_MESSAGE_MB
from sft_edge.client import GrpcSession
from sft_edge.job import Job, is_published, name_for
from sft_edge.login import edge_access
from sft_edge.machine import machine_facts
from sft_edge.outcome import asked
from sft_edge.run_files import EDGE_FILE, JOB_FILE, METRICS_FILE
from sft_edge.tasks.kinds import Encoder, encoder_for
from sft_edge.tasks.table import Task


def job_facts(job: Job, session: GrpcSession) -> dict[str, Any]:
    """Return what job.json says of a run."""
    options = job.options
    return {
        "task": dataclasses.asdict(job.task),
        "model": job.source.name if is_published(job.source) else str(job.source.folder),
        "revision": job.source.revision,
        "split": dataclasses.asdict(job.spec.split),
        "head": job.spec.head,
        "num_labels": job.spec.num_labels,
        "seed": job.spec.seed,
        "encoding": job.spec.encoding,
        "max_length": job.max_length,
        "batch_size": job.plan.batch_size,
        "data": str(options.data.absolute()) if options.data else None,
        "eval_examples": options.eval_examples,
        "server": options.server,
        "max_message": options.max_message,
        "session_id": session.session_id,
        "arguments": options.given,
        "known": {
            **asked(job),
            "session_id": session.session_id,
            "cloud_device": session.device,
            "machine": machine_facts(job.device),
        },
    }


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished run."""

    path: Path
    task: Task
    source: Source
    pretrained: Pretrained
    shape: ModelShape
    spec: SessionSpec
    net1: Net1
    """Trained, in evaluation mode."""

    encoder: Encoder
    batch_size: int
    data: Path | None
    """Where the data were."""

    access: Access
    """To the cloud that keeps the other half."""

    session_id: str
    facts: dict[str, Any]
    """What job.json says."""

    weights: dict[str, Tensor]
    """Of net1, by stock name."""

    metrics: dict[str, Any]
    """What metrics.json says; empty for a run that did not come to its end."""

    def open(self) -> GrpcSession:
        """Open a session on the net2 that the run's own session left on its cloud.

        Raises:
            SftError: the cloud is not to be reached, or does not have it.
        """
        return GrpcSession(
            self.access,
            self.spec,
            self.shape,
            max_message_bytes=self.facts.get("max_message", MAX_MESSAGE_MB) * 2**20,
            trained_session=self.session_id,
        )


def read_run(options: argparse.Namespace, access: Access | None = None) -> TrainedRun:
    """Return the run that `--run` names, with `--model` and `--server` put in place of its own.

    Args:
        options: of a command that goes on with a run.
        access: to its cloud; None: as the options say.

    Raises:
        ConfigError: the folder is no finished run, or the options do not say how to log in.
        ModelError: its pre-trained model is not to be found any more, or is another one.
    """
    facts = _read_json(options.run / JOB_FILE)
    server = options.server or facts["server"]
    access = access or edge_access(options, server)
    stopped = not (options.run / METRICS_FILE).is_file()  # by a loss that was no number
    metrics = {} if stopped else _read_json(options.run / METRICS_FILE)
    try:
        weights: dict[str, Tensor] = load_file(options.run / EDGE_FILE)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot read {options.run / EDGE_FILE}: {first_line(error)}") from error
    task, split = _task(facts["task"]), SplitSpec(**facts["split"])
    source = find_model(options.model or facts["model"], facts["revision"])
    classes = len(task.labels) or 1
    pretrained = Pretrained(
        source.folder, num_labels=classes, head=facts["head"], weights=source.weights
    )
    shape = shape_of(pretrained.config)
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1, weights)
    data = Path(facts["data"]) if facts["data"] else None
    return TrainedRun(
        path=options.run,
        task=task,
        source=source,
        pretrained=pretrained,
        shape=shape,
        spec=SessionSpec(
            model=pretrained.identity(name_for(server, source), source.revision),
            split=split,
            head=facts["head"],
            num_labels=facts["num_labels"],
            seed=facts["seed"],
            encoding=facts.get("encoding", "float32"),
            max_examples=facts["batch_size"],
            max_tokens=shape.positions if task.kind == "language" else facts["max_length"],
        ),
        net1=net1.eval(),
        encoder=encoder_for(
            task, source.folder, pretrained, shape, max_length=facts["max_length"], data=data
        ),
        batch_size=facts["batch_size"],
        data=data,
        access=access,
        session_id=facts["session_id"],
        facts=facts,
        weights=weights,
        metrics=metrics,
    )


def _task(facts: dict[str, Any]) -> Task:
    listed = {"columns": tuple(facts["columns"]), "labels": tuple(facts["labels"])}
    hub = tuple(facts["hub"]) if facts["hub"] else None
    return Task(**{**facts, **listed, "hub": hub})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path.parent} is not the folder of a finished run: cannot read {path.name} "
            f"({first_line(error)}); `sft-edge train` prints the folder at its end"
        ) from error
    return facts
