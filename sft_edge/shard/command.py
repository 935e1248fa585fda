"""`sft-edge shard`: splits a data set into the folders of a federation's clients."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sft_common.errors import ConfigError
from sft_common.files import check_new, written_aside
from sft_edge.shard.dealing import dealt, dealt_by_class
from sft_edge.shard.writing import write_labels, write_part
from sft_edge.tasks.asked import task_of
from sft_edge.tasks.checks import class_of, require
from sft_edge.tasks.data import TaskRows, read_rows_of
from sft_edge.tasks.kinds import KINDS
from sft_edge.tasks.sources import TRAIN
from sft_edge.tasks.table import Task

SHARDS_FILE = "shards.json"

_SHOWN = 6
"""Labels of a client in the table."""


def run_shard(options: argparse.Namespace) -> None:
    """Split a task's data, with the options of `sft-edge shard`.

    Raises:
        ConfigError: the options do not go together, or there are more clients than rows.
        DataError: the data cannot be read, or a row has no class.
    """
    task = task_of(options)
    check_new(options.to)
    _check_alpha(task, options.dirichlet)
    rows = read_rows_of(task, options.data, train_limit=options.train_examples, eval_limit=None)
    if len(rows.train) < options.clients:
        raise ConfigError(
            f"--clients {options.clients}, but the training part has {len(rows.train)} rows, and "
            "every client needs one"
        )
    classes = _classes(rows)
    hands = (
        dealt(len(rows.train), options.clients, options.seed)
        if options.dirichlet is None
        else dealt_by_class(classes, options.clients, options.dirichlet, options.seed)
    )
    facts = _facts(options, rows.task, hands, classes)
    with written_aside(options.to) as aside:
        aside.mkdir()
        for client, hand in zip(facts["clients"], hands, strict=True):
            _write_client(aside / client["name"], rows, hand, options.data)
        (aside / SHARDS_FILE).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    _print(facts["clients"], options.to)


def _check_alpha(task: Task, alpha: float | None) -> None:
    if alpha is not None and KINDS[task.kind].classes != "row":
        raise ConfigError(
            f"--dirichlet {alpha:g} deals rows by their class, and a row of task {task.name} has "
            "none; leave it out"
        )


def _classes(rows: TaskRows) -> list[int]:
    """Return the class of each training row; none at all where rows have no class."""
    task = rows.task
    if KINDS[task.kind].classes != "row":
        return []
    for row in rows.train:
        require(task, row, task.label_column)
    return [class_of(task, row, row.values[task.label_column]) for row in rows.train]


def _facts(
    options: argparse.Namespace, task: Task, hands: Sequence[Sequence[int]], classes: Sequence[int]
) -> dict[str, Any]:
    """Return what shards.json says."""
    digits = max(2, len(str(len(hands))))
    clients = []
    for number, hand in enumerate(hands, start=1):
        found = Counter(classes[row] for row in hand) if classes else Counter()
        clients.append(
            {
                "name": f"client-{number:0{digits}}",
                "rows": len(hand),
                "labels": {task.labels[n]: found[n] for n in sorted(found)},
            }
        )
    return {"task": task.name, "seed": options.seed, "alpha": options.dirichlet, "clients": clients}


def _write_client(target: Path, rows: TaskRows, hand: Sequence[int], source: Path | None) -> None:
    """Write the folder of a client: its rows, and the whole of every validation part."""
    target.mkdir()
    task = rows.task
    write_part(target, TRAIN, rows.train, hand, task=task, source=source)
    for suffix, part in task.parts.items():
        judged = rows.validation[suffix]
        write_part(target, part, judged, range(len(judged)), task=task, source=source)
    write_labels(target, task)


def _print(clients: Sequence[dict[str, Any]], place: Path) -> None:
    table = Table("client", "rows", "labels", box=None, pad_edge=False, header_style="")
    for client in clients:
        table.add_row(client["name"], str(client["rows"]), Text(_said(client["labels"])))
    console = Console()
    console.print(table)
    line = f"{len(clients)} clients in {place}; the first: --data {place / clients[0]['name']}"
    console.print(Text(line), soft_wrap=True)


def _said(labels: dict[str, int]) -> str:
    shown = [f"{name} {count}" for name, count in labels.items()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
