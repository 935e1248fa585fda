"""The task that a command's options name, with the columns they name. Standard library only."""

from __future__ import annotations

import argparse
import dataclasses

from sft_common.errors import ConfigError
from sft_edge.tasks.table import TASKS, Task, find_task, takes_own_data


def task_of(options: argparse.Namespace) -> Task:
    """Return the task with the columns that the options name.

    Raises:
        ConfigError: the task has columns of its own, or takes another number of them.
    """
    task = find_task(options.task)
    if takes_own_data(task) and options.data is None:
        raise ConfigError(
            f"task {task.name} has no data of its own; give --data DIR with train and validation"
        )
    columns = tuple(options.text_column or ())
    if not columns and options.label_column is None:
        return task
    if not takes_own_data(task):
        own = ", ".join((*task.columns, task.label_column))
        raise ConfigError(
            f"task {task.name} has columns of its own ({own}); for others take one of: "
            f"{', '.join(name for name, t in TASKS.items() if takes_own_data(t))}"
        )
    if task.kind == "language" and options.label_column is not None:
        raise ConfigError(f"task {task.name} has no label column: it learns the text itself")
    most = 2 if task.kind == "text" else 1
    if len(columns) > most:
        raise ConfigError(
            f"{len(columns)} text columns ({', '.join(columns)}); task {task.name} takes {most}"
        )
    return dataclasses.replace(
        task,
        columns=columns or task.columns,
        label_column=options.label_column or task.label_column,
    )
