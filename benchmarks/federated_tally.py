"""What a federation has cost: what its clients have counted, and its cloud round by round.

It reads the clients' folders, no models. Bytes are all that clients have sent and received, by
their own count; those of a round, of the calibration of cuts before the first and of the evaluation
behind the last are the cloud's, which knows when each began.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.federated_clients import FLOPS_FILE

Entry = dict[str, Any]

WAYS = {"up": "received", "down": "sent"}
"""Way of a client -> what the cloud's records call it."""


def tally(clients: Sequence[Path], records: Sequence[Entry]) -> dict[str, Any]:
    """Return the costs of all clients together, and of a client in a round.

    Args:
        clients: the folder that each has left.
        records: of all tries, as the cloud keeps them.
    """
    left = [_left(folder) for folder in clients]
    training = [record for record in records if record["duty"] == "train"]
    return {
        "bytes": {way: sum(client["metrics"]["bytes"][way] for client in left) for way in WAYS},
        "training_bytes": _moved(training),
        "calibration_bytes": _moved(r for r in records if r["duty"].startswith("calibrate")),
        "ending_bytes": _moved(record for record in records if record["duty"] == "evaluate"),
        "round_bytes": by_round(training),
        "not_taken": sum(len(record["refused"]) for record in records),
        "client_round": _client_round(left, training),
        "calibration_flops": _calibration(left),
        "memory": _memory(left),
    }


def by_round(training: Iterable[Entry]) -> list[int]:
    """Return the bytes of all clients in each round, both ways."""
    found: dict[int, int] = {}
    for record in training:
        moved = sum(record[name] for name in WAYS.values())
        found[record["round"]] = found.get(record["round"], 0) + moved
    return [found[number] for number in sorted(found)]


def _left(folder: Path) -> dict[str, Any]:
    return {
        "metrics": json.loads((folder / "metrics.json").read_text()),
        "counted": json.loads((folder / FLOPS_FILE).read_text()),
    }


def _moved(records: Iterable[Entry]) -> dict[str, int]:
    known = list(records)
    return {way: sum(record[name] for record in known) for way, name in WAYS.items()}


def _client_round(left: Sequence[Entry], training: Sequence[Entry]) -> dict[str, Any]:
    """Return the means over all clients and rounds in which they trained."""
    moved = _moved(training)
    flops = [done["flops"] for client in left for done in _done(client, "train")]
    examples = [client["metrics"]["examples"] for client in left for _ in _done(client, "train")]
    return {
        "count": len(flops),
        "up": moved["up"] / len(flops),
        "down": moved["down"] / len(flops),
        "examples": fmean(examples),
        "flops": fmean(flops),
        "largest_flops": max(flops),
    }


def _calibration(left: Sequence[Entry]) -> int:
    return sum(
        done["flops"]
        for client in left
        for done in client["counted"]["done"]
        if done["what"].startswith("calibrate")
    )


def _done(client: Entry, what: str) -> list[Entry]:
    return [done for done in client["counted"]["done"] if done["what"] == what]


def _memory(left: Sequence[Entry]) -> dict[str, Any]:
    peaks = [client["metrics"]["peak_rss_bytes"] for client in left]
    libraries = max(client["counted"]["libraries_rss_bytes"] for client in left)
    return {"largest": max(peaks), "mean": fmean(peaks), "libraries": libraries}
