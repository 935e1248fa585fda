"""Rows of .jsonl, .jsonl.gz, .csv and .parquet files, read and written. It knows no task."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sft_common.errors import DataError, first_line

_TEXT = "utf-8-sig"
"""UTF-8, with or without the mark that spreadsheets put in front."""


class Row(NamedTuple):
    """One row with where it stands, for messages."""

    place: str
    values: Mapping[str, Any]


def find_file(folder: Path, part: str) -> Path:
    """Return the file of one part ("train", "validation") of a data folder.

    Raises:
        DataError: there is none, or more than one.
    """
    if not folder.is_dir():
        raise DataError(f"there is no data folder {folder}")
    found = [path for ending in _READERS if (path := folder / f"{part}{ending}").is_file()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{part}{ending}" for ending in _READERS)
    if not found:
        raise DataError(f"{folder} has no file of the {part} part; one of these is needed: {names}")
    raise DataError(f"{folder} has {len(found)} files of the {part} part; keep one of: {names}")


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file.

    Raises:
        DataError: the file is empty, or broken; names the line.
    """
    reader = next(read for ending, read in _READERS.items() if path.name.endswith(ending))
    empty = True
    try:
        for row in reader(path):
            empty = False
            yield row
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error
    if empty:
        raise DataError(f"{path} holds no rows")


def write_jsonl(rows: Iterable[Row], path: Path) -> None:
    """Write rows so that `read_rows` returns their values again."""
    with open(path, "wb") as file:
        for row in rows:
            line = json.dumps(row.values, ensure_ascii=False)
            # Half of a surrogate pair is no UTF-8; it becomes what JSON writes for it.
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")


def is_parquet(path: Path) -> bool:
    """Return whether rows are read from a file as parquet, which holds what JSON cannot."""
    return path.name.endswith(".parquet")


def copy_parquet(source: Path, chosen: Sequence[int], target: Path) -> None:
    """Write the rows of these numbers, which rise, to a new parquet file of the same schema."""
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    numbers, taken, begin = pyarrow.array(chosen, pyarrow.int64()), [], 0
    with pyarrow.parquet.ParquetFile(source) as file:
        for batch in file.iter_batches():
            end = begin + batch.num_rows
            low, high = bisect_left(chosen, begin), bisect_left(chosen, end)
            taken.append(batch.take(pyarrow.compute.subtract(numbers[low:high], begin)))
            begin = end
        table = pyarrow.Table.from_batches(taken, schema=file.schema_arrow)
    pyarrow.parquet.write_table(table, target)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with _open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{place}: not JSON: {error.msg} at column {error.colno}"
                ) from error
            except (ValueError, RecursionError) as error:  # a number or a nesting beyond measure
                raise DataError(f"{place}: not JSON to be read: {first_line(error)}") from error
            if not isinstance(values, dict):
                raise DataError(f"{place}: a row must be a JSON object, not {line.strip()[:40]}")
            yield Row(place, values)


def _open_text(path: Path) -> Any:
    return (
        gzip.open(path, "rt", encoding=_TEXT)
        if path.suffix == ".gz"
        else open(path, encoding=_TEXT)
    )


def _read_csv(path: Path) -> Iterator[Row]:
    with open(path, encoding=_TEXT, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for values in reader:
                row = {str(name): value for name, value in values.items()}
                yield Row(f"{path}:{reader.line_num}", row)
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    yield Row(f"{path}, row {number}", values)
                    number += 1
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a parquet file: {error}") from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
