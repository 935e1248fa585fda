"""From options to a job: all that a run needs, looked at and loaded before the server is asked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import datetime

import torch

from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, DeviceError, first_line
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1
from sft_common.model.sources import Source, find_model
from sft_edge.run_folder import RunFolder
from sft_edge.tasks.batches import TokenizedExamples, load_tokenizer
from sft_edge.tasks.examples import load_examples
from sft_edge.tasks.table import Task, find_task
from sft_edge.trainer import Plan

DEVICE_TYPES = ("cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs."""

    options: argparse.Namespace
    """As given on the command line."""

    task: Task
    source: Source
    pretrained: Pretrained
    shape: ModelShape
    spec: SessionSpec
    """What the cloud is to build."""

    net1: Net1
    """On the meta device; its checkpoint can fill it."""

    data: TokenizedExamples
    validation: TokenizedExamples
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
    task = find_task(options.task)
    device = _device(options.device)
    source = find_model(options.model or task.model)
    pretrained = Pretrained(source.folder, num_labels=len(task.labels), dropout=options.dropout)
    shape = shape_of(pretrained.config)
    split = _split(options, shape)
    folder = RunFolder(options.runs_dir, options.name or _default_name(task, split))
    net1 = pretrained.net1(split)
    data, validation = _load_data(options, task, source, pretrained)
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


def _split(options: argparse.Namespace, shape: ModelShape) -> SplitSpec:
    last_but_one = max(1, shape.blocks - 1)
    layer = last_but_one if options.split_layer is None else options.split_layer
    split = SplitSpec(cut=options.cut, split_layer=layer, rank=options.rank)
    split.check(shape)
    return split


def _load_data(
    options: argparse.Namespace, task: Task, source: Source, pretrained: Pretrained
) -> tuple[TokenizedExamples, TokenizedExamples]:
    longest = shape_of(pretrained.config).positions
    max_length = options.max_length or min(task.max_length, longest)
    tokenizer = load_tokenizer(source.folder, pretrained.config.vocab_size)
    special = tokenizer.num_special_tokens_to_add(pair=len(task.text_columns) == 2)
    if not special < max_length <= longest:
        raise ConfigError(
            f"--max-length {max_length} is outside {special + 1}..{longest}: {source.name} takes "
            f"{longest} tokens, of which {special} are its own"
        )
    examples = load_examples(
        task,
        options.data,
        train_limit=options.train_examples,
        eval_limit=options.eval_examples,
    )
    return (
        TokenizedExamples(examples.train, tokenizer, max_length),
        TokenizedExamples(examples.validation, tokenizer, max_length),
    )


def _plan(options: argparse.Namespace, task: Task) -> Plan:
    rate = task.learning_rate if options.learning_rate is None else options.learning_rate
    return Plan(
        epochs=options.epochs or task.epochs,
        max_steps=options.max_steps,
        batch_size=options.batch_size or task.batch_size,
        learning_rate=rate,
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
        if device.type not in DEVICE_TYPES:
            raise RuntimeError(f"choose one of: {', '.join(DEVICE_TYPES)}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"device {name!r} is not to be had on this machine: {first_line(error)}; "
            "use --device cpu"
        ) from error
    return device
