"""The rows of one part of a task's data: from files, from the hub, or from this package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from sft_common.errors import ConfigError, DataError, first_line
from sft_edge.tasks.checks import MAX_CLASSES
from sft_edge.tasks.files import Row, find_file, read_rows
from sft_edge.tasks.table import Task

TRAIN = "train"

LABELS_FILE = "labels.json"
"""A data folder may hold it: the names of all classes, of which its rows may lack some."""


def rows_of(task: Task, folder: Path | None, part: str, limit: int | None) -> list[Row]:
    """Return the rows of one part, with their places.

    Args:
        task: whose data.
        folder: holds a file of each part; None takes the task's own data.
        part: "train" or a validation part.
        limit: only the first so many; None for all.

    Raises:
        ConfigError: the task has no data of its own and none were given.
        DataError: a file is missing or broken; names the file and line.
    """
    return list(islice(_rows(task, folder, part), limit))


def labels_told(folder: Path | None) -> tuple[str, ...]:
    """Return the classes that a data folder says it has; () if it says nothing.

    Raises:
        DataError: the file holds no list of two or more names that differ.
    """
    path = None if folder is None else folder / LABELS_FILE
    if path is None or not path.exists():
        return ()
    try:
        names = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error
    if not (
        isinstance(names, list)
        and 2 <= len(names) <= MAX_CLASSES
        and all(isinstance(name, str) and name and name == name.strip() for name in names)
        and len(set(names)) == len(names)
    ):
        raise DataError(
            f"{path} must hold a list of 2 to {MAX_CLASSES} names of classes, no two the same, "
            f"not {str(names)[:60]}"
        )
    return tuple(names)


def _rows(task: Task, folder: Path | None, part: str) -> Iterable[Row]:
    if folder is not None:
        return read_rows(find_file(folder, part))
    if task.shipped:
        return read_rows(find_file(Path(__file__).parent / task.name, part))
    if task.hub is None:
        raise ConfigError(
            f"task {task.name} has no data of its own; give --data DIR with train and validation"
        )
    return _hub_rows(*task.hub, part)


def _hub_rows(dataset: str, configuration: str | None, part: str) -> Iterable[Row]:
    from datasets import load_dataset

    try:
        rows = load_dataset(dataset, configuration, split=part)
    except Exception as error:  # the hub client raises many unrelated classes
        raise DataError(
            f"data set {dataset} ({configuration or 'default'}) is not to be had from the hub "
            f"({first_line(error)}); give --data DIR with train and validation files"
        ) from error
    return (Row(f"{dataset} {part}, row {n}", row) for n, row in enumerate(rows))
