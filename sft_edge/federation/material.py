"""What a client of a federation has: the model, and its data as the model takes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sft_common.config import ModelIdentity, ModelShape
from sft_common.errors import ConfigError
from sft_common.federation.plan import FederationPlan
from sft_common.federation.said import Finding
from sft_common.federation.tensors import trained_of
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE, Head
from sft_common.model.loading import Pretrained
from sft_common.model.sources import find_model
from sft_common.rpc.access import Access
from sft_edge.device import device_named
from sft_edge.tasks.asked import task_of
from sft_edge.tasks.batches import Batch
from sft_edge.tasks.data import TaskData, prepare_data, read_rows_of
from sft_edge.tasks.kinds import encoder_for
from sft_edge.tasks.table import Task
from sft_edge.trainer import combined

Check = Callable[[], None]
"""Called between batches; raises if what goes on counts no more, or somebody wants it to stop."""

Predictions = Callable[[Iterable[Batch]], Iterator[tuple[Batch, Tensor]]]
"""Yields each batch with what the head says of it in evaluation mode (`Head.verdict`)."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that a client trains with."""

    options: argparse.Namespace
    """As given on the command line."""

    access: Access
    """To the cloud."""

    plan: FederationPlan
    task: Task
    pretrained: Pretrained
    model: ModelIdentity
    shape: ModelShape
    data: TaskData
    max_length: int
    """Tokens of an example."""

    device: torch.device

    @property
    def head(self) -> Head:
        """What the model ends in."""
        return HEAD_TABLE[self.plan.head]

    def evaluate(self, predictions: Predictions, check: Check) -> Finding:
        """Return what a model is worth on the validation parts, by what it says of batches."""
        scores, examples = {}, 0
        for suffix, part in self.data.validation.items():
            scorer = part.scorer()
            for batch, verdict in predictions(part.data.in_order(self.plan.training.batch_size)):
                check()
                scorer.add(batch, verdict)
                examples += len(batch.lengths)
            scores[suffix] = scorer.score()
        found = combined(scores, self.task.metric)
        return Finding(examples=examples, metric=found.metric, value=found.value, loss=found.loss)

    def epochs(self, seed: int) -> Iterator[Iterator[Batch]]:
        """Yield the batches of each local epoch."""
        training = self.plan.training
        for epoch in range(training.epochs):
            yield self.data.train.shuffled(training.batch_size, seed=seed, epoch=epoch)

    def calibration(self, check: Check) -> Iterator[Batch]:
        """Yield the batches that cuts are calibrated with."""
        plan = self.plan
        for batch in self.data.train.shuffled(plan.training.batch_size, seed=plan.seed, epoch=0):
            check()
            yield batch


def gather(options: argparse.Namespace, access: Access, plan: FederationPlan) -> Material:
    """Load data and model of a client.

    Raises:
        ConfigError: the task is not what the federation is about.
        SftError: the data or the model are not what they should be.
    """
    task = task_of(options)
    if task.kind != plan.kind:
        raise ConfigError(
            f"federation {plan.name} is about {plan.kind} tasks, task {task.name} is of kind "
            f"{task.kind}"
        )
    if task.labels and task.labels != plan.labels:
        raise ConfigError(
            f"task {task.name} has the labels {', '.join(task.labels)}, federation {plan.name} "
            f"{', '.join(plan.labels)}; they must be the same, in the same order"
        )
    source = find_model(options.model or plan.model.name)
    rows = read_rows_of(
        task.with_labels(plan.labels),
        options.data,
        train_limit=options.train_examples,
        eval_limit=options.eval_examples,
    )
    pretrained = Pretrained(
        source.folder,
        num_labels=plan.classes,
        head=plan.head,
        dropout=plan.training.dropout,
        weights=source.weights,
    )
    shape = shape_of(pretrained.config)
    encoder = encoder_for(
        rows.task,
        source.folder,
        pretrained,
        shape,
        max_length=plan.training.max_length or None,
        data=options.data,
    )
    return Material(
        options=options,
        access=access,
        plan=plan,
        task=rows.task,
        pretrained=pretrained,
        model=pretrained.identity(plan.model.name, source.revision),
        shape=shape,
        data=prepare_data(rows, encoder),
        max_length=encoder.max_length,
        device=device_named(options.device),
    )


@torch.no_grad()
def load_into(module: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give the parameters of a module that are named their numbers."""
    parameters = dict(module.named_parameters())
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)


def copy_of_trained(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters that train, on the CPU, by name."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in trained_of(module).items()}
