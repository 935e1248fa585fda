"""Values out of rows, each checked; messages name the row's place. It knows no tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sft_common.errors import DataError
from sft_common.model.heads import IGNORED
from sft_edge.tasks.files import Row
from sft_edge.tasks.table import Task, takes_own_data

LARGEST_FLOAT32 = 3.4e38
"""Numbers travel as float32."""

MAX_CLASSES = 10_000
"""More distinct labels than that in one's own data are no classes but a mistaken column."""


def require(task: Task, row: Row, *columns: str) -> None:
    """Refuse a row that lacks a column.

    Raises:
        DataError: names the column, what the task needs and what was found.
    """
    missing = [name for name in columns if row.values.get(name) is None]
    if missing:
        raise DataError(
            f"{row.place}: column {missing[0]!r} is missing; task {task.name} needs "
            f"{', '.join(columns)} (found: {', '.join(row.values)})"
        )


def text_of(row: Row, name: str) -> str:
    """Return the text of a column.

    Raises:
        DataError: it holds no text.
    """
    return checked_text(row, name, row.values[name])


def checked_text(row: Row, name: str, value: object) -> str:
    """Return a value that came out of a column if it is text.

    Raises:
        DataError: it is not.
    """
    if not isinstance(value, str) or _is_broken(value):
        raise DataError(f"{row.place}: column {name!r} holds {value!r}, not text")
    return value


def class_of(task: Task, row: Row, value: Any) -> int:
    """Return the number of a class: given by its name, or by its number if the task has names.

    The classes of one's own data are called what the training part calls them, and nothing else.

    Raises:
        DataError: it is no class of the task.
    """
    name = str(value).strip()
    if name in task.labels:
        return task.labels.index(name)
    listed = ", ".join(f"{n} {label}" for n, label in enumerate(task.labels[:20]))
    if takes_own_data(task):
        raise DataError(
            f"{row.place}: label {name!r} is none of those in the training part ({listed})"
        )
    if not (name.isdecimal() and int(name) < len(task.labels)) or isinstance(value, bool):
        raise DataError(
            f"{row.place}: label {value!r} is not a whole number in 0..{len(task.labels) - 1} "
            f"({listed})"
        )
    return int(name)


def number_of(row: Row, name: str) -> float:
    """Return the finite number of a column.

    Raises:
        DataError: it holds none.
    """
    value = row.values[name]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not abs(number) <= LARGEST_FLOAT32:
        raise DataError(f"{row.place}: column {name!r} holds {value!r}, not a number")
    return number


def list_of(row: Row, name: str) -> Sequence[Any]:
    """Return the list of a column; a text is taken as words with spaces between.

    Raises:
        DataError: it holds neither.
    """
    value = row.values[name]
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list | tuple):
        raise DataError(f"{row.place}: column {name!r} holds {value!r}, not a list")
    return value


def found_labels(task: Task, values: Iterable[Any]) -> tuple[str, ...]:
    """Return the classes that the values of a label column name.

    Whole numbers from 0 are taken as numbers of classes; anything else as names, in sorted order.

    Raises:
        DataError: there is only one class, or there are too many to be classes.
    """
    names = {str(value).strip() for value in values} - {str(IGNORED)}
    if "" in names:
        raise DataError(f"column {task.label_column!r} of the training part has empty labels")
    if len(names) > MAX_CLASSES or len(names) < 2:
        raise DataError(
            f"column {task.label_column!r} of the training part has {len(names)} different labels; "
            f"a task needs 2 to {MAX_CLASSES}; is it the right --label-column?"
        )
    if all(name.isdecimal() for name in names):
        highest = max(map(int, names))
        if highest >= MAX_CLASSES:
            raise DataError(
                f"column {task.label_column!r} of the training part has label {highest}; "
                f"numbered classes go from 0 to at most {MAX_CLASSES - 1}"
            )
        return tuple(str(number) for number in range(highest + 1))
    return tuple(sorted(names))


def _is_broken(text: str) -> bool:
    """Return whether a text holds half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
