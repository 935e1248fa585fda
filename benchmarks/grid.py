"""The plan of an accuracy benchmark: which runs, in which order. It starts nothing.

Legend: L blocks of the model, N its hidden width, R rank.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sft_common.config import ModelShape, SplitSpec
from sft_common.errors import ConfigError
from sft_edge.tasks.sources import TRAIN, rows_of
from sft_edge.tasks.table import TASKS, Task

UNCUT = "uncut"
"""What a person types for plain split learning below the last block: the unsplit model's numbers,
since the cut "none" changes nothing that is computed."""

Key = tuple[Any, ...]
"""What tells two runs apart: the fields of `Run` in their order."""


class Limit(NamedTuple):
    """How much of a task to train on."""

    examples: int | None
    """The first so many training examples; None takes all."""

    epochs: int
    """Passes over them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A cut as a person asks for it."""

    name: str = "none"
    """One of `CUTS`."""

    layer: int | None = None
    """The block that is cut; None: the last but one."""

    rank: int | None = None
    """R; None for the cut "none"."""

    edge: str = "trained"
    """Whether net1 learns, "trained", or stays as it was, "frozen"."""

    healed: str = ""
    """How the cut model was healed; empty: not at all."""

    encoding: str = "float32"
    """How a number travels, as `Run.encoding`."""

    def at(self, shape: ModelShape) -> SplitSpec:
        """Return the cut of a model of that shape.

        Raises:
            ConfigError: it does not fit.
        """
        layer = max(1, shape.blocks - 1) if self.layer is None else self.layer
        split = SplitSpec(cut=self.name, split_layer=layer, rank=_given(self.rank))
        split.check(shape)
        return split


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training: all that may change its outcome."""

    task: str
    """What is learned."""

    model: str
    """Name of the pre-trained model, without its place on this machine."""

    cut: str
    """One of `CUTS`; "none" is the uncut model."""

    split_layer: int
    """The block that is cut, 1 is the lowest."""

    rank: int | None
    """R; None for the cut "none"."""

    edge: str = "trained"
    """Whether net1 learns, "trained", or stays as it was, "frozen"."""

    healed: str = ""
    """How the cut model was brought near the uncut one before the task; empty: not at all."""

    encoding: str = "float32"
    """How a number travels, one of `ENCODINGS`; two with a slash: activations and gradients."""

    seed: int
    """Seed of batches, fresh head and dropout."""

    train_examples: int | None
    """The first so many; None: all."""

    eval_examples: int | None
    """The first so many; None: all."""

    epochs: int
    """Passes over the training examples."""

    extra: str = ""
    """Further options of `sft-edge train`."""

    def key(self) -> Key:
        """Return what tells this run from all others."""
        return dataclasses.astuple(self)

    def arguments(self) -> list[str]:
        """Return the options of `sft-edge train` that make this run, but not where things lie."""
        encoding, _, gradient_encoding = self.encoding.partition("/")
        options = {
            "--task": self.task,
            "--cut": self.cut,
            "--split-layer": self.split_layer,
            "--rank": self.rank,
            "--edge": None if self.edge == "trained" else self.edge,
            "--encoding": encoding,
            "--grad-encoding": gradient_encoding or None,
            "--seed": self.seed,
            "--epochs": self.epochs,
            "--train-examples": self.train_examples,
            "--eval-examples": self.eval_examples,
        }
        given = [(name, str(value)) for name, value in options.items() if value is not None]
        return [*(word for pair in given for word in pair), *shlex.split(self.extra)]

    def wire_width(self, shape: ModelShape) -> int:
        """Return the numbers sent for each token."""
        split = SplitSpec(cut=self.cut, split_layer=self.split_layer, rank=_given(self.rank))
        return split.wire_width(shape)

    def label(self) -> str:
        """Return how a person reads it."""
        where = UNCUT if self.cut == "none" else f"{self.cut}:{self.split_layer}:{self.rank}"
        frozen = "" if self.edge == "trained" else f":{self.edge}"
        encoded = "" if self.encoding == "float32" else f":{self.encoding}"
        healed = " healed" if self.healed else ""
        return f"{self.task} {where}{encoded}{frozen}{healed} seed {self.seed}"


def _given(rank: int | None) -> int:
    return 1 if rank is None else rank  # the cut "none" ignores it


KEY_FIELDS = tuple(field.name for field in dataclasses.fields(Run))
"""Names of the parts of a `Key`."""


def key_of(line: Mapping[str, Any]) -> Key:
    """Return the key of the run that a line of results tells of.

    Raises:
        KeyError: it lacks a field.
    """
    return tuple(line[name] for name in KEY_FIELDS)


def plan(
    *,
    limits: Mapping[str, Limit],
    cuts: Iterable[Cut],
    seeds: Iterable[int],
    shape: ModelShape,
    model: str,
    eval_examples: int | None,
    extra: str,
) -> list[Run]:
    """Return the runs in order: seeds outermost, then tasks, then cuts.

    So an interrupted benchmark holds complete comparisons.

    Args:
        limits: task -> how much of it, cheap tasks first.
        cuts: which; repeated ones count once.
        seeds: which; repeated ones count once.
        shape: of the model, for what must fit.
        model: its name.
        eval_examples: the first so many; None takes all.
        extra: further options of `sft-edge train`.

    Raises:
        ConfigError: a cut does not fit the model.
    """
    splits = [(cut, cut.at(shape)) for cut in dict.fromkeys(cuts)]
    return [
        Run(
            task=task,
            model=model,
            cut=cut.name,
            split_layer=split.split_layer,
            rank=cut.rank,
            edge=cut.edge,
            healed=cut.healed,
            encoding=cut.encoding,
            seed=seed,
            train_examples=limit.examples,
            eval_examples=eval_examples,
            epochs=limit.epochs,
            extra=extra,
        )
        for seed in dict.fromkeys(seeds)
        for task, limit in limits.items()
        for cut, split in splits
    ]


def limits_of(
    tasks: Iterable[str], given: Sequence[tuple[str, Limit]], default: Limit | None
) -> dict[str, Limit]:
    """Return how much to train of every task.

    Args:
        tasks: the tasks of the grid.
        given: what a person asked for, task by task.
        default: for the others; None takes the task's own epochs over all examples.

    Raises:
        ConfigError: a limit for a task outside the grid, or two for one task.
    """
    limits = {task: default or Limit(None, TASKS[task].epochs) for task in tasks}
    for position, (task, limit) in enumerate(given):
        if task not in limits:
            raise ConfigError(f"--limit {task}=…: the tasks are {', '.join(limits)}")
        if task in (earlier for earlier, _ in given[:position]):
            raise ConfigError(f"--limit {task}=… is given twice; keep one")
        limits[task] = limit
    return limits


def cheap_first(limits: Mapping[str, Limit], data: Path) -> dict[str, Limit]:
    """Return the same limits ordered by the characters that a run of the task reads in training.

    Raises:
        DataError: the data of a task are missing or broken.
    """

    def cost(task: Task) -> int:
        limit = limits[task.name]
        rows = rows_of(task, data / task.name, TRAIN, limit.examples)
        read = sum(len(str(row.values.get(column))) for row in rows for column in task.columns)
        return limit.epochs * read

    return {task: limits[task] for task in sorted(limits, key=lambda name: cost(TASKS[name]))}
