"""Federations for tests: data and files of small ones, their clients as real processes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.processes import write_rows
from tests.warm import Program, forge

TEXTS = [
    ("a lovely quiet room and fine food", 1),
    ("awful staff never again", 0),
    ("the lamp broke and it was very poor", 0),
    ("good tea and we always came again", 1),
    ("not bad the park was lovely", 1),
    ("the bus smelled", 0),
]


def write_clients(folder: Path, sizes: Mapping[str, int]) -> dict[str, Path]:
    """Write a data folder for each client, each with texts of its own; returns the folders."""
    places = {}
    for at, (client, size) in enumerate(sizes.items()):
        rows = [TEXTS[(at + n * (at + 1)) % len(TEXTS)] for n in range(size)]
        named = [{"text": text, "label": ("bad", "good")[label]} for text, label in rows]
        places[client] = write_rows(folder / client, named, named[: 2 + at])
    return places


def write_file(path: Path, model: Path, **changes: Any) -> Path:
    """Write a federation's file; tables are dictionaries, which are added to the usual ones."""
    known: dict[str, Any] = {
        "name": path.stem,
        "method": "fedavg",
        "model": str(model),
        "labels": ["bad", "good"],
        "rounds": 3,
        "clients": {"per_round": 3, "quorum": 2},
        "training": {"batch_size": 4, "learning_rate": 1e-3, "dropout": 0.0, "epochs": 2},
    }
    for name, value in changes.items():
        known[name] = {**known.get(name, {}), **value} if isinstance(value, dict) else value
    plain = {name: value for name, value in known.items() if not isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, table in known.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def join(
    place: Path, server: str, federation: str, client: str, data: Path, *more: object
) -> Program:
    """Start a client; its runs are in the place."""
    place.mkdir(parents=True, exist_ok=True)
    line: list[object] = [
        "join",
        "--federation",
        federation,
        "--server",
        server,
        "--client",
        client,
    ]
    line += ["--task", "text-classification", "--data", data, "--runs-dir", place / "runs", *more]
    (place / f"{client}.log").write_text("")
    return forge().start("sft-edge", line, place / f"{client}.log")


def joined(
    place: Path, server: str, federation: str, data: Mapping[str, Path], *more: object
) -> dict[str, Program]:
    """Start all clients."""
    return {
        client: join(place, server, federation, client, folder, *more)
        for client, folder in data.items()
    }


def history(place: Path, federation: str, client: str) -> list[dict[str, Any]]:
    """Return what a client has written of its rounds."""
    path = place / "runs" / f"{federation}-{client}" / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def metrics(place: Path, federation: str, client: str) -> dict[str, Any]:
    """Return the outcome of a client."""
    path = place / "runs" / f"{federation}-{client}" / "metrics.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def average_file(place: Path, federation: str, client: str) -> Path:
    """Return where a client keeps the last average."""
    return place / "runs" / f"{federation}-{client}" / "average.safetensors"


def newest(sessions: Path, federation: str) -> Path:
    """Return the folder of the cloud's newest average."""
    return max((sessions / "federations" / federation / "averages").glob("step-*"))


def records(sessions: Path, federation: str) -> list[dict[str, Any]]:
    """Return what a cloud has written of the tries of a federation."""
    path = sessions / "federations" / federation / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def all_said(programs: Sequence[Program]) -> None:
    """Wait until all have come to a good end."""
    for program in programs:
        program.said()
