"""Clients' folders: each part of the data as a file, with the images it names. It draws no lots."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from sft_common.errors import DataError, first_line
from sft_edge.tasks.files import Row, copy_parquet, find_file, is_parquet, write_jsonl
from sft_edge.tasks.images import file_named_by
from sft_edge.tasks.sources import LABELS_FILE
from sft_edge.tasks.table import Task, takes_own_data


def write_part(
    target: Path,
    part: str,
    rows: Sequence[Row],
    chosen: Sequence[int],
    *,
    task: Task,
    source: Path | None,
) -> None:
    """Write some rows of a part, all their columns, in the order given, with their images.

    Args:
        target: a client's folder.
        part: "train" or a validation part.
        rows: all of the part, from its beginning.
        chosen: numbers of those to be written, rising.
        task: whose data.
        source: the folder the rows are from; None where they were in none.

    Raises:
        DataError: an image cannot be copied.
    """
    if source is not None and is_parquet(path := find_file(source, part)):
        copy_parquet(path, chosen, target / f"{part}.parquet")
    else:
        write_jsonl((rows[number] for number in chosen), target / f"{part}.jsonl")
    if source is not None and task.kind == "image":
        _copy_images((rows[number] for number in chosen), task.columns[0], source, target)


def write_labels(target: Path, task: Task) -> None:
    """Write the classes of one's own data, which a client with fewer would number otherwise."""
    if takes_own_data(task) and task.labels:
        (target / LABELS_FILE).write_text(json.dumps(task.labels) + "\n", "utf-8")


def _copy_images(rows: Iterable[Row], column: str, source: Path, target: Path) -> None:
    """Copy the images that rows name by a path from the data folder.

    Copies, not links: a folder can be carried to a device, and an image that is changed later does
    not change the shards of a federation. Absolute paths are left as they are.
    """
    for row in rows:
        named = file_named_by(row.values.get(column))
        if named is None or PurePath(named).is_absolute():
            continue
        if ".." in PurePath(named).parts:
            raise DataError(
                f"{row.place}: image {named!r} leads out of the data folder, and a client's folder "
                "holds copies of what is inside; give a path within it, or an absolute one"
            )
        copy = target / named
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source / named, copy)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(f"{row.place}: cannot copy image {named!r}: {reason}") from error
