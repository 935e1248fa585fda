"""Data sets as the folders of clients: their rows, classes and images, whole or not at all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.files import find_file, read_rows
from sft_edge.tasks.sources import LABELS_FILE
from sft_edge.tasks.table import TASKS
from tests.processes import edge_here, write_rows

TEXTS = [{"text": f"text {n} — ☕", "label": "abc"[n % 3], "more": [n, None]} for n in range(30)]


def shard(*arguments: object) -> str:
    done = edge_here("shard", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(folder: Path, part: str = "train") -> list[dict[str, Any]]:
    return [dict(row.values) for row in read_rows(find_file(folder, part))]


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_small_case_has_these_very_bytes(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": "yes" if n % 2 else "no"} for n in range(8)]
    data = write_rows(tmp_path / "data", rows, rows[:2])
    line = ("--task", "text-classification", "--data", data, "--clients", 2, "--dirichlet", 0.5)
    shown = shard(*line, "--seed", 5, "--to", tmp_path / "to")
    found = contents(tmp_path / "to")
    lines = (data / "train.jsonl").read_bytes().splitlines(keepends=True)
    facts = json.loads(found.pop("shards.json"))
    judged = {f"client-0{n}/validation.jsonl": b"".join(lines[:2]) for n in (1, 2)}
    labels = {f"client-0{n}/labels.json": b'["no", "yes"]\n' for n in (1, 2)}
    assert found == judged | labels | {
        "client-01/train.jsonl": b"".join([*lines[:5], *lines[6:]]),
        "client-02/train.jsonl": lines[5],
    }
    assert facts == {
        "task": "text-classification",
        "seed": 5,
        "alpha": 0.5,
        "clients": [
            {"name": "client-01", "rows": 7, "labels": {"no": 4, "yes": 3}},
            {"name": "client-02", "rows": 1, "labels": {"yes": 1}},
        ],
    }
    assert [line.split() for line in shown.splitlines()[:3]] == [
        ["client", "rows", "labels"],
        ["client-01", "7", "no", "4,", "yes", "3"],
        ["client-02", "1", "yes", "1"],
    ]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_rows_of_every_format_keep_all_columns_and_their_order(tmp_path: Path, ending: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for part in ("train", "validation"):
        path, lines = data / f"{part}.{ending}", "".join(json.dumps(row) + "\n" for row in TEXTS)
        match ending:
            case "jsonl":
                path.write_text(lines)
            case "jsonl.gz":
                path.write_bytes(gzip.compress(lines.encode()))
            case "csv":
                path.write_text(
                    "text,label,more\n" + "".join(f'"{r["text"]}",{r["label"]},\n' for r in TEXTS)
                )
            case "parquet":
                table = pyarrow.Table.from_pylist(TEXTS).replace_schema_metadata({"made": "here"})
                pyarrow.parquet.write_table(table, path, row_group_size=7)
    line = ("--task", "text-classification", "--data", data, "--clients", 4, "--dirichlet", 1)
    shard(*line, "--to", tmp_path / "one")
    shard(*line, "--to", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    before, held = values(data), []
    for client in sorted((tmp_path / "one").glob("client-*")):
        assert values(client, "validation") == values(data, "validation")
        mine = values(client)
        places = [before.index(row) for row in mine]
        assert places == sorted(places)
        held += mine
        if ending == "parquet":
            schema = pyarrow.parquet.read_schema(client / "train.parquet")
            assert schema.equals(pyarrow.parquet.read_schema(data / "train.parquet"), True)
    assert sorted(map(str, held)) == sorted(map(str, before))


def test_half_a_character_is_written_as_it_was_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for part in ("train", "validation"):
        (data / f"{part}.jsonl").write_text('{"text": "\\ud83d", "big": 1e999, "label": 1}\n' * 2)
    shard("--task", "causal-lm", "--data", data, "--clients", 2, "--to", tmp_path / "to")
    assert values(tmp_path / "to" / "client-02") == values(data)[:1]


def test_a_client_that_lacks_a_class_numbers_them_as_all_do(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data", TEXTS, TEXTS[:6])
    line = ("--task", "text-classification", "--data", data, "--clients", 6, "--dirichlet", 0.01)
    shard(*line, "--to", tmp_path / "to")
    clients = json.loads((tmp_path / "to" / "shards.json").read_text())["clients"]
    assert any(len(client["labels"]) < 3 for client in clients)
    for client in clients:
        folder = tmp_path / "to" / client["name"]
        rows = read_rows_of(TASKS["text-classification"], folder, train_limit=None, eval_limit=None)
        assert rows.task.labels == ("a", "b", "c")
        assert client["rows"] == len(rows.train) == sum(client["labels"].values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot read"),
        ('"ab"', "must hold a list of 2 to 10000 names of classes, no two the same, not ab"),
        ('["a"]', "must hold a list of 2"),
        ('["a", "a"]', "must hold a list of 2"),
        ('["a", " b"]', "must hold a list of 2"),
        ('["a", 1]', "must hold a list of 2"),
    ],
)
def test_classes_that_are_none_are_named(tmp_path: Path, text: str, said: str) -> None:
    data = write_rows(tmp_path / "data", TEXTS, TEXTS)
    (data / LABELS_FILE).write_text(text)
    line = ("--task", "text-classification", "--data", data, "--clients", 2)
    done = edge_here("shard", *line, "--to", tmp_path / "to")
    assert done.returncode == 1 and said in done.stderr and str(data / LABELS_FILE) in done.stderr


def test_every_validation_part_goes_to_every_client(tmp_path: Path) -> None:
    rows = [{"premise": "a", "hypothesis": f"b{n}", "label": n % 3} for n in range(6)]
    data = write_rows(tmp_path / "data", rows, rows)
    for kind in ("matched", "mismatched"):
        (data / f"validation_{kind}.jsonl").write_bytes((data / "validation.jsonl").read_bytes())
    shard("--task", "mnli", "--data", data, "--clients", 3, "--to", tmp_path / "to")
    assert sorted(contents(tmp_path / "to" / "client-03")) == [
        *("train.jsonl", "validation_matched.jsonl", "validation_mismatched.jsonl")
    ]


def images(place: Path) -> Path:
    """Write a data folder whose rows name images, and return it."""
    (place / "png" / "deep").mkdir(parents=True)
    rows = []
    for n in range(6):
        name = f"png/{'deep/' if n % 2 else ''}{n}.png"
        Image.fromarray(np.full((4, 4), n, np.uint8)).save(place / name)
        rows.append({"image": name if n else {"path": name}, "label": n % 2})
    return write_rows(place, rows, rows[:1])


def test_images_go_along(tmp_path: Path) -> None:
    data = images(tmp_path / "data")
    shard("--task", "image-classification", "--data", data, "--clients", 3, "--to", tmp_path / "to")
    for client in (tmp_path / "to").glob("client-*"):
        named = {
            row["image"] if isinstance(row["image"], str) else row["image"]["path"]
            for row in values(client) + values(client, "validation")
        }
        found = {name: data for name, data in contents(client).items() if name.endswith(".png")}
        assert set(found) == named
        assert all((data / name).read_bytes() == copy for name, copy in found.items())


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    data = images(tmp_path / "data")
    rows = [
        {**row, "image": str(data / f"png/{2 * n}.png")} for n, row in enumerate(values(data)[:3])
    ]
    write_rows(data, rows, rows[:1])
    shard("--task", "image-classification", "--data", data, "--clients", 2, "--to", tmp_path / "to")
    assert values(tmp_path / "to" / "client-01") == [
        row for row in rows if row in values(tmp_path / "to" / "client-01")
    ]
    assert not [name for name in contents(tmp_path / "to") if name.endswith(".png")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../out.png", "train.jsonl:1: image '../out.png' leads out of the data folder"),
        ("png/none.png", "train.jsonl:1: cannot copy image 'png/none.png': No such file"),
    ],
)
def test_an_image_that_cannot_go_along_leaves_nothing(tmp_path: Path, name: str, said: str) -> None:
    data = images(tmp_path / "data")
    rows = [{"image": name, "label": 0}, *values(data)[1:]]
    write_rows(data, rows, values(data)[:1])
    line = ("--task", "image-classification", "--data", data, "--clients", 2)
    done = edge_here("shard", *line, "--to", tmp_path / "to")
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "demo", "--clients", 2001], "--clients 2001, but the training part has 2000"),
        (["--task", "demo", "--clients", 3, "--train-examples", 2], "the training part has 2 rows"),
        (["--task", "stsb", "--clients", 2, "--dirichlet", 0.1], "a row of task stsb has none"),
        (["--task", "squad", "--clients", 2, "--dirichlet", 0.1], "a row of task squad has none"),
        (["--task", "sst3", "--clients", 2], "unknown task 'sst3'; did you mean sst2?"),
        (["--task", "causal-lm", "--clients", 2], "task causal-lm has no data of its own"),
        (["--task", "demo", "--clients", 2, "--label-column", "x"], "has columns of its own"),
        (["--task", "demo", "--clients", 2, "--to", "."], ". is there already"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edge_here("shard", "--to", "to", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not any(tmp_path.iterdir())
