"""The table of tasks with the paper's hyperparameters. Standard library only."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from sft_common.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One classification task over a text or a pair of texts."""

    name: str
    """What a person types after --task."""

    text_columns: tuple[str, ...]
    """One or two columns that hold the text."""

    labels: tuple[str, ...]
    """Names of the classes; the label column holds their numbers from 0."""

    metric: str = "accuracy"
    """"accuracy" or "matthews"."""

    hub: tuple[str, str] | None
    """Data set and configuration on the hub; None for data shipped with this package."""

    model: str = "bert-base-uncased"
    """Pre-trained model unless --model says otherwise."""

    epochs: int = 3
    """Passes over the training part."""

    learning_rate: float = 2e-5
    """Peak rate, after 10 % of the steps."""

    batch_size: int = 32
    """Examples of one step."""

    max_length: int = 128
    """Tokens of an example, the rest is cut off."""


_GLUE = "nyu-mll/glue"
_ENTAILMENT = ("entailment", "not_entailment")

_ROWS = (
    Task(
        name="demo",
        text_columns=("sentence",),
        labels=("negative", "positive"),
        hub=None,
        model="all-MiniLM-L6-v2",
        epochs=3,
        learning_rate=1e-4,
        max_length=48,
    ),
    Task(
        name="sst2",
        text_columns=("sentence",),
        labels=("negative", "positive"),
        hub=(_GLUE, "sst2"),
        max_length=66,
    ),
    Task(
        name="cola",
        text_columns=("sentence",),
        labels=("unacceptable", "acceptable"),
        metric="matthews",
        hub=(_GLUE, "cola"),
        max_length=32,
    ),
    Task(
        name="qqp",
        text_columns=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        hub=(_GLUE, "qqp"),
        max_length=96,
    ),
    Task(
        name="qnli",
        text_columns=("question", "sentence"),
        labels=_ENTAILMENT,
        hub=(_GLUE, "qnli"),
        max_length=128,
    ),
    Task(
        name="rte",
        text_columns=("sentence1", "sentence2"),
        labels=_ENTAILMENT,
        hub=(_GLUE, "rte"),
        epochs=4,
        max_length=256,
    ),
    Task(
        name="mrpc",
        text_columns=("sentence1", "sentence2"),
        labels=("not_equivalent", "equivalent"),
        hub=(_GLUE, "mrpc"),
        epochs=4,
        learning_rate=3e-5,
        max_length=128,
    ),
)

TASKS = {task.name: task for task in _ROWS}
"""Name -> task."""


def find_task(name: str) -> Task:
    """Return a task by name.

    Raises:
        ConfigError: there is none; names the nearest and all others.
    """
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"unknown task {name!r}; {hint}choose one of: {', '.join(TASKS)}")
