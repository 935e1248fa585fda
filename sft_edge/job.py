"""From options to a job: all that a run needs, looked at and loaded before the server is asked."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from datetime import datetime

import torch

from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1
from sft_common.model.prepared import prepared_split
from sft_common.model.sources import Source, find_model
from sft_common.plan import Plan
from sft_common.rpc.access import Access
from sft_edge.board import check_board
from sft_edge.defaults import CUT, USUAL, usual_layer
from sft_edge.device import device_named
from sft_edge.login import edge_access
from sft_edge.run_folder import RunFolder
from sft_edge.tasks.asked import task_of
from sft_edge.tasks.data import TaskData, prepare_data, read_rows_of
from sft_edge.tasks.kinds import KINDS, encoder_for
from sft_edge.tasks.table import Task


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs."""

    options: argparse.Namespace
    """As given on the command line."""

    access: Access
    """To the cloud."""

    task: Task
    """With its classes known."""

    source: Source
    pretrained: Pretrained
    shape: ModelShape
    spec: SessionSpec
    """What the cloud is to build."""

    net1: Net1
    """On the meta device; its checkpoint can fill it."""

    data: TaskData
    max_length: int
    """Tokens of an example."""

    plan: Plan
    device: torch.device
    """Where net1 runs."""

    folder: RunFolder
    """Not made yet."""


def prepare(options: argparse.Namespace) -> Job:
    """Check the options of `sft-edge train` and load what they name.

    Raises:
        SftError: what is wrong with them.
    """
    task = task_of(options)
    _check_edge(options)
    check_board(options)
    access = edge_access(options, options.server)
    device = device_named(options.device)
    source = find_model(options.model or task.model)
    folder = (
        RunFolder.existing(options.resume)
        if options.resume
        else RunFolder(options.runs_dir, options.name or _default_name(task, options, source))
    )
    rows = read_rows_of(
        task,
        options.data,
        train_limit=options.train_examples,
        eval_limit=options.eval_examples,
    )
    task, kind = rows.task, KINDS[task.kind]
    pretrained = Pretrained(
        source.folder,
        num_labels=len(task.labels) or 1,
        head=kind.head,
        dropout=options.dropout,
        weights=source.weights,
    )
    shape = shape_of(pretrained.config)
    split = split_of(options, shape, pretrained.prepared)
    encoding = options.encoding or USUAL[split.cut].encoding
    if options.unsplit:
        pretrained.check_unsplit()
    net1 = pretrained.net1(split)
    encoder = encoder_for(
        task,
        source.folder,
        pretrained,
        shape,
        max_length=options.max_length,
        data=options.data,
    )
    plan = _plan(options, task)
    return Job(
        options=options,
        access=access,
        task=task,
        source=source,
        pretrained=pretrained,
        shape=shape,
        spec=SessionSpec(
            model=pretrained.identity(name_for(options.server, source), source.revision),
            split=split,
            head=kind.head,
            num_labels=pretrained.classes or len(task.labels) or 1,
            seed=options.seed,
            dropout=options.dropout,
            encoding=encoding,
            gradient_encoding=options.grad_encoding or encoding,
            max_examples=plan.batch_size,
            max_tokens=encoder.max_length,
        ),
        net1=net1,
        data=prepare_data(rows, encoder),
        max_length=encoder.max_length,
        plan=plan,
        device=device,
        folder=folder,
    )


def recut(job: Job) -> Job:
    """Return a job that is cut as its options say now, with all else as it was."""
    split = split_of(job.options, job.shape, job.pretrained.prepared)
    encoding = job.options.encoding or USUAL[split.cut].encoding
    spec = dataclasses.replace(
        job.spec,
        split=split,
        encoding=encoding,
        gradient_encoding=job.options.grad_encoding or encoding,
    )
    return dataclasses.replace(job, spec=spec, net1=job.pretrained.net1(split))


def _check_edge(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if options.edge == "frozen" and options.micro_batches not in (None, 1):
        raise ConfigError("--micro-batches is for a trained edge: a frozen one sends and goes on")
    if options.edge == "frozen" and options.grad_encoding:
        raise ConfigError("--grad-encoding is for a trained edge: a frozen one gets none")
    if options.edge == "frozen" and options.labels == "edge":
        raise ConfigError(
            "--labels edge is for a trained edge: with a frozen one the cloud trains alone, and "
            "needs the labels for it"
        )
    if options.auto and options.edge == "frozen":
        raise ConfigError("--auto is for a trained edge: with a frozen one no step waits for it")
    if options.detach and options.edge != "frozen":
        raise ConfigError("--detach goes with --edge frozen: a trained edge is needed to the end")
    if options.detach and options.unsplit:
        raise ConfigError("--unsplit trains here afterwards, which --detach leaves out; drop one")


def split_of(
    options: argparse.Namespace, shape: ModelShape, prepared: SplitSpec | None
) -> SplitSpec:
    """Return the cut asked for; what was not said is as the model was prepared, else as usual."""
    cut = options.cut or (prepared.cut if prepared else CUT)
    layer = options.split_layer
    if layer is None:
        layer = prepared.split_layer if prepared else usual_layer(shape)
    rank = options.rank
    if rank is None and prepared:
        rank = prepared.rank
    if rank is None:
        rank = USUAL[cut].rank(layer, shape) if cut in USUAL else 1
    split = SplitSpec(
        cut=cut,
        split_layer=layer,
        rank=rank,
        decoder_layers=prepared.decoder_layers if prepared and cut == prepared.cut else 0,
    )
    split.check(shape)
    return split


def _plan(options: argparse.Namespace, task: Task) -> Plan:
    rate = task.learning_rate if options.learning_rate is None else options.learning_rate
    return Plan(
        epochs=options.epochs or task.epochs,
        max_steps=options.max_steps,
        batch_size=options.batch_size or task.batch_size,
        learning_rate=rate,
        seed=options.seed,
        group_by_length=options.group_by_length,
    )


def is_published(source: Source) -> bool:
    """Return whether a model is known by a name that means the same everywhere."""
    return source.folder.name != source.name


def name_for(server: str, source: Source) -> str:
    """Return what to call the model towards the cloud.

    A path means something only to a cloud on this very machine; others get the folder's own name,
    and learn nothing about this machine.
    """
    host = server.rpartition(":")[0].strip("[]")
    if not is_published(source) and host in ("localhost", "127.0.0.1", "::1"):
        return str(source.folder)
    return source.name


def _default_name(task: Task, options: argparse.Namespace, source: Source) -> str:
    prepared = prepared_split(source.folder)
    cut = "auto" if options.auto else options.cut or (prepared.cut if prepared else CUT)
    layer = "" if options.split_layer is None else f"-l{options.split_layer}"
    rank = "" if options.rank is None or cut == "none" else f"-r{options.rank}"
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    return f"{task.name}-{cut}{layer}{rank}-{now}"
