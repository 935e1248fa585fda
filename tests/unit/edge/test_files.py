"""Rows of data files, and what is said of broken ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from sft_common.errors import DataError
from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.files import find_file, read_rows
from sft_edge.tasks.table import TASKS
from sft_edge.tasks.texts import Example, classified

ROWS = [
    {"sentence": "a fine, quiet room", "label": 1, "idx": 0},
    {"sentence": 'the "tea" was\npoor — ☕', "label": 0, "idx": 1},
]


def examples_of(task: str, folder: Path, *, eval_limit: int | None = None) -> list[list[Example]]:
    """Return the examples of both parts."""
    rows = read_rows_of(TASKS[task], folder, train_limit=None, eval_limit=eval_limit)
    return [classified(rows.task, part) for part in (rows.train, rows.validation[""])]


def packed(lines: int) -> bytes:
    """Return lines of JSON as gzip, the same at any time: they are part of a test's name."""
    return gzip.compress(b'{"a": 1}\n' * lines, mtime=0)


def write(path: Path) -> None:
    """Write ROWS in the format that the file's name says."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    match path.name.partition(".")[2]:
        case "jsonl":
            path.write_text(lines)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case "csv":
            quoted = (f'"{r["sentence"].replace(chr(34), chr(34) * 2)}",{r["label"]}' for r in ROWS)
            path.write_text("sentence,label\n" + "\n".join(quoted) + "\n")
        case "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_every_format_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    for part in ("train", "validation"):
        write(tmp_path / f"{part}.{ending}")
    train, validation = examples_of("sst2", tmp_path, eval_limit=1)
    assert train == [Example((row["sentence"],), row["label"]) for row in ROWS]
    assert validation == train[:1]


def test_a_pair_of_texts_keeps_its_order(tmp_path: Path) -> None:
    row = {"sentence2": "b", "sentence1": "a", "label": "1"}
    for part in ("train", "validation"):
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row))
    assert examples_of("rte", tmp_path) == [[Example(("a", "b"), 1)]] * 2


def test_a_spreadsheets_mark_at_the_start_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    for part in ("train", "validation"):
        text = "sentence,label\nfine,1\n"
        (tmp_path / f"{part}.csv").write_text(text, encoding="utf-8-sig")
    assert examples_of("sst2", tmp_path)[0] == [Example(("fine",), 1)]


def test_a_part_must_have_one_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data folder"):
        find_file(tmp_path / "absent", "train")
    with pytest.raises(DataError, match=r"no file of the train part; one of these .*train\.csv"):
        find_file(tmp_path, "train")
    write(tmp_path / "train.csv")
    write(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match="has 2 files of the train part"):
        find_file(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", b"", r"train\.jsonl holds no rows"),
        ("train.jsonl", b"\n\n", r"train\.jsonl holds no rows"),
        ("train.csv", b"sentence,label\n", r"train\.csv holds no rows"),
        ("train.jsonl", b'{"a": 1}\n{"a": \n', r"train\.jsonl:2: not JSON"),
        ("train.jsonl", b'{"a": 1}\n[1]\n', r"train\.jsonl:2: a row must be a JSON object"),
        ("train.jsonl", b"\xff\xfe", r"cannot read .*train\.jsonl"),
        ("train.jsonl.gz", b"not gzip", r"cannot read .*train\.jsonl\.gz"),
        ("train.jsonl.gz", packed(999)[:40], r"cannot read .*jsonl\.gz"),
        ("train.jsonl.gz", packed(9)[:-20] + b"\xff" * 20, "cannot read"),
        ("train.parquet", b"PAR0", r"train\.parquet is not a parquet file"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "x", "label": 0},
            r"train\.jsonl:2: column 'sentence' is missing; task sst2 needs sentence, label "
            r"\(found: text, label\)",
        ),
        ({"sentence": "x"}, "column 'label' is missing"),
        ({"sentence": None, "label": 1}, "column 'sentence' is missing"),
        ({"sentence": 5, "label": 1}, "column 'sentence' holds 5, not text"),
        ({"sentence": "x", "label": 2}, r"label 2 is not a whole number in 0\.\.1 \(0 negative"),
        ({"sentence": "x", "label": -1}, "label -1 is not"),
        ({"sentence": "x", "label": 0.5}, "label 0.5 is not"),
        ({"sentence": "x", "label": float("inf")}, "label inf is not"),
        ({"sentence": "half \ud800", "label": 1}, "column 'sentence' holds 'half .*, not text"),
        ({"sentence": "x", "label": "good"}, "label 'good' is not"),
        ({"sentence": "x", "label": True}, "label True is not"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    good = {"sentence": "fine", "label": 1}
    lines = [json.dumps(good), json.dumps(row)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "validation.jsonl").write_text(json.dumps(good))
    with pytest.raises(DataError, match=message):
        examples_of("sst2", tmp_path)
