"""The table of tasks with the paper's hyperparameters. Standard library only."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field

from sft_common.errors import ConfigError
from sft_edge.tasks.metrics import are_entities

VALIDATION = "validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be learned, and from which columns."""

    name: str
    """What a person types after --task."""

    kind: str = "text"
    """One of those in kinds.py: "text", "similarity", "question", "words", "language", "image"."""

    columns: tuple[str, ...]
    """The columns of the input: one text, a pair, question and context, words, or an image."""

    label_column: str = "label"
    """The column of what is to be learned; not read where the kind needs none."""

    labels: tuple[str, ...] = ()
    """Names of the classes; the label column holds these names or their numbers from 0. Empty where
    there are no classes, or where they are still to be found in the training part."""

    metric: str = "accuracy"
    """The metric that comes first."""

    parts: dict[str, str] = field(default_factory=lambda: {"": VALIDATION})
    """What is put behind the metric's name -> validation part of the data."""

    hub: tuple[str, str | None] | None = None
    """Data set and configuration on the hub; None where there is none."""

    shipped: bool = False
    """Whether the data come with this package."""

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

    def with_labels(self, labels: tuple[str, ...]) -> Task:
        """Return the same task with its classes known.

        Tags that make up no entities (B-..., I-...) have no F1 of their own: accuracy comes first.
        """
        plain = self.kind == "words" and not are_entities(labels)
        metric = "accuracy" if plain else self.metric
        return dataclasses.replace(self, labels=labels, metric=metric)


_GLUE = "nyu-mll/glue"
_ENTAILMENT = ("entailment", "not_entailment")

_ROWS = (
    Task(
        name="demo",
        columns=("sentence",),
        labels=("negative", "positive"),
        shipped=True,
        model="all-MiniLM-L6-v2",
        learning_rate=1e-4,
        max_length=48,
    ),
    Task(
        name="sst2",
        columns=("sentence",),
        labels=("negative", "positive"),
        hub=(_GLUE, "sst2"),
        max_length=66,
    ),
    Task(
        name="cola",
        columns=("sentence",),
        labels=("unacceptable", "acceptable"),
        metric="matthews",
        hub=(_GLUE, "cola"),
        max_length=32,
    ),
    Task(
        name="qqp",
        columns=("question1", "question2"),
        labels=("not_duplicate", "duplicate"),
        hub=(_GLUE, "qqp"),
        max_length=96,
    ),
    Task(
        name="stsb",
        kind="similarity",
        columns=("sentence1", "sentence2"),
        metric="spearman",
        hub=(_GLUE, "stsb"),
        max_length=96,
    ),
    Task(
        name="mnli",
        columns=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        parts={"": "validation_matched", "_mismatched": "validation_mismatched"},
        hub=(_GLUE, "mnli"),
    ),
    Task(
        name="qnli",
        columns=("question", "sentence"),
        labels=_ENTAILMENT,
        hub=(_GLUE, "qnli"),
    ),
    Task(
        name="rte",
        columns=("sentence1", "sentence2"),
        labels=_ENTAILMENT,
        hub=(_GLUE, "rte"),
        epochs=4,
        max_length=256,
    ),
    Task(
        name="mrpc",
        columns=("sentence1", "sentence2"),
        labels=("not_equivalent", "equivalent"),
        hub=(_GLUE, "mrpc"),
        epochs=4,
        learning_rate=3e-5,
    ),
    Task(
        name="squad",
        kind="question",
        columns=("question", "context"),
        label_column="answers",
        metric="f1",
        hub=("rajpurkar/squad", None),
        epochs=2,
        learning_rate=3e-5,
        batch_size=12,
        max_length=384,
    ),
    Task(name="text-classification", columns=("text",)),
    Task(
        name="token-classification",
        kind="words",
        columns=("tokens",),
        label_column="tags",
        metric="f1",
        learning_rate=5e-5,
    ),
    Task(
        name="causal-lm",
        kind="language",
        columns=("text",),
        metric="perplexity",
        model="gpt2",
        learning_rate=5e-5,
        batch_size=8,
    ),
    Task(
        name="image-classification",
        kind="image",
        columns=("image",),
        model="google/vit-base-patch16-224-in21k",
        learning_rate=5e-5,
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


def takes_own_data(task: Task) -> bool:
    """Return whether a task is a form that a person fills with data of their own."""
    return task.hub is None and not task.shipped
