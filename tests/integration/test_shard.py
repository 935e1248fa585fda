"""A data set is split by one program, and another trains on a part of it."""

from __future__ import annotations

import json
from pathlib import Path

from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.table import TASKS
from tests.processes import run, running_cloud, train_here, write_rows

ROWS = [
    {"text": f"a {('good', 'bad', 'fine')[n % 3]} room", "label": ("yes", "no", "well")[n % 3]}
    for n in range(60)
]


def test_the_rows_of_the_demo_are_all_in_the_clients_folders(tmp_path: Path) -> None:
    line = ("--task", "demo", "--clients", 12, "--dirichlet", 0.1, "--seed", 3, "--to", "one")
    done = run("sft-edge", "shard", *line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 clients in one; the first: --data one/client-01" in done.stdout
    held: list[object] = []
    for number in range(1, 13):
        folder_of = tmp_path / "one" / f"client-{number:02}"
        rows = read_rows_of(TASKS["demo"], folder_of, train_limit=None, eval_limit=None)
        held += [row.values for row in rows.train]
        assert len(rows.validation[""]) == 600
    whole = read_rows_of(TASKS["demo"], None, train_limit=None, eval_limit=1)
    assert sorted(map(str, held)) == sorted(str(row.values) for row in whole.train)


def test_a_client_of_one_class_trains_a_model_of_all(tmp_path: Path, tiny_model: Path) -> None:
    data = write_rows(tmp_path / "data", ROWS, ROWS[:12])
    line = ("--task", "text-classification", "--data", data, "--clients", 3, "--dirichlet", 0.01)
    done = run("sft-edge", "shard", *line, "--to", tmp_path / "to")
    assert done.returncode == 0, done.stderr
    clients = json.loads((tmp_path / "to" / "shards.json").read_text())["clients"]
    (name, *_) = [client["name"] for client in clients if len(client["labels"]) == 1]
    with running_cloud(tmp_path / "cloud") as cloud:
        metrics = train_here(
            tmp_path / "runs",
            *("--task", "text-classification", "--data", tmp_path / "to" / name),
            *("--model", tiny_model, "--server", cloud.server, "--max-steps", 2, "--rank", 4),
        )
    assert metrics["labels"] == ["no", "well", "yes"]
    assert metrics["evaluated_examples"] == 12
