"""A task's data, ready for a model: the training part and every validation part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sft_common.errors import DataError
from sft_edge.tasks.batches import Dataset
from sft_edge.tasks.files import Row
from sft_edge.tasks.kinds import KINDS, Encoder, Part
from sft_edge.tasks.sources import TRAIN, labels_told, rows_of
from sft_edge.tasks.table import Task


@dataclass(frozen=True, kw_only=True)
class TaskRows:
    """The rows of a task, read but not yet tokens."""

    task: Task
    """With its classes known."""

    train: list[Row]
    validation: dict[str, list[Row]]
    """What is put behind a metric's name -> rows."""


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """The examples of a task as inputs of a model."""

    train: Dataset
    validation: dict[str, Part]
    """What is put behind a metric's name -> part."""


def read_rows_of(
    task: Task, folder: Path | None, *, train_limit: int | None, eval_limit: int | None
) -> TaskRows:
    """Read the rows of all parts of a task, and find out its classes if they are not known.

    Args:
        task: which columns and labels to expect.
        folder: holds a file of each part; None takes the task's own data.
        train_limit: use only the first so many training rows; None uses all.
        eval_limit: the same for each validation part.

    Raises:
        DataError: a file or row is missing or broken; names the file and line.
    """
    train = rows_of(task, folder, TRAIN, train_limit)
    return TaskRows(
        task=task.with_labels(_labels(task, folder, train)),
        train=train,
        validation={
            suffix: rows_of(task, folder, part, eval_limit) for suffix, part in task.parts.items()
        },
    )


def _labels(task: Task, folder: Path | None, train: list[Row]) -> tuple[str, ...]:
    kind = KINDS[task.kind]
    told = labels_told(folder) if kind.classes and not task.labels else ()
    return task.labels or told or kind.labels(task, train)


def validation_of(
    task: Task, folder: Path | None, encoder: Encoder, limit: int | None
) -> dict[str, Part]:
    """Return the validation parts of a task with known classes; raises like `prepare_data`."""
    parts = {suffix: rows_of(task, folder, part, limit) for suffix, part in task.parts.items()}
    return {suffix: _part(task, rows, encoder, suffix) for suffix, rows in parts.items()}


def prepare_data(rows: TaskRows, encoder: Encoder) -> TaskData:
    """Return a task's examples as inputs of a model.

    Raises:
        DataError: a row is broken, or a part holds no example; names the place.
    """
    train = KINDS[rows.task.kind].part(rows.task, rows.train, encoder).data
    if not len(train):
        raise DataError("the training part holds no example that can be used")
    return TaskData(
        train=train,
        validation={
            suffix: _part(rows.task, part, encoder, suffix)
            for suffix, part in rows.validation.items()
        },
    )


def _part(task: Task, rows: list[Row], encoder: Encoder, suffix: str) -> Part:
    part = KINDS[task.kind].part(task, rows, encoder)
    if not len(part.data):
        raise DataError(f"the validation part{suffix} holds no example that can be used")
    return part
