"""Examples of a task, from files, from the hub or from this package, each row checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sft_common.errors import DataError, first_line
from sft_edge.tasks.files import Row, find_file, read_rows
from sft_edge.tasks.table import Task

TRAIN, VALIDATION = "train", "validation"


class Example(NamedTuple):
    """One text or pair of texts with its class."""

    texts: tuple[str, ...]
    label: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskData:
    """The two parts of a task's data."""

    train: list[Example]
    validation: list[Example]


def load_examples(
    task: Task, folder: Path | None, *, train_limit: int | None, eval_limit: int | None
) -> TaskData:
    """Return the examples of a task.

    Args:
        task: which columns and labels to expect.
        folder: holds train and validation files; None takes the task's own data.
        train_limit: use only the first so many training rows; None uses all.
        eval_limit: the same for validation.

    Raises:
        DataError: a file or row is missing or broken; names the file and line.
    """
    limits = {TRAIN: train_limit, VALIDATION: eval_limit}
    parts = {
        part: _checked(task, _rows(task, folder, part), limit) for part, limit in limits.items()
    }
    return TaskData(train=parts[TRAIN], validation=parts[VALIDATION])


def _rows(task: Task, folder: Path | None, part: str) -> Iterable[Row]:
    if folder is None and task.hub is not None:
        return _hub_rows(*task.hub, part)
    path = find_file(folder or Path(__file__).parent / task.name, part)
    return read_rows(path)


def _hub_rows(dataset: str, configuration: str, part: str) -> Iterable[Row]:
    from datasets import load_dataset

    try:
        rows = load_dataset(dataset, configuration, split=part)
    except Exception as error:  # the hub client raises many unrelated classes
        raise DataError(
            f"data set {dataset} ({configuration}) is not to be had from the hub "
            f"({first_line(error)}); give --data DIR with train and validation files"
        ) from error
    return (Row(f"{dataset} {part}, row {n}", row) for n, row in enumerate(rows))


def _checked(task: Task, rows: Iterable[Row], limit: int | None) -> list[Example]:
    examples: list[Example] = []
    for row in rows:
        if limit is not None and len(examples) == limit:
            break
        examples.append(_example(task, row))
    return examples


def _example(task: Task, row: Row) -> Example:
    missing = [name for name in (*task.text_columns, "label") if row.values.get(name) is None]
    if missing:
        raise DataError(
            f"{row.place}: column {missing[0]!r} is missing; task {task.name} needs "
            f"{', '.join((*task.text_columns, 'label'))} (found: {', '.join(row.values)})"
        )
    return Example(
        texts=tuple(_text(row, name) for name in task.text_columns),
        label=_label(task, row.place, row.values),
    )


def _text(row: Row, name: str) -> str:
    value = row.values[name]
    if not isinstance(value, str) or _is_broken(value):
        raise DataError(f"{row.place}: column {name!r} holds {value!r}, not text")
    return value


def _is_broken(text: str) -> bool:
    """Return whether a text holds half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _label(task: Task, place: str, values: Mapping[str, Any]) -> int:
    value, classes = values["label"], len(task.labels)
    try:
        label = int(value)
    except (TypeError, ValueError, OverflowError):
        label = -1
    if not 0 <= label < classes or str(label) != str(value).strip():
        raise DataError(
            f"{place}: label {value!r} is not a whole number in 0..{classes - 1} "
            f"({', '.join(f'{n} {name}' for n, name in enumerate(task.labels))})"
        )
    return label
