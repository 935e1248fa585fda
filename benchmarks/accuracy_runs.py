"""Runs one line of the grid through the real programs: a cloud on loopback and an edge.

Nothing is trained in this process. Whatever the programs write lies in a folder that the caller
throws away.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.accuracy_results import Line
from benchmarks.grid import KEY_FIELDS, Run
from benchmarks.programs import LocalCloud, command, last_line
from sft_common.config import ModelShape
from sft_common.errors import SftError

KEPT = ("steps", "examples", "metric", "metrics", "bytes", "seconds", "peak_rss_bytes", "versions")
"""Entries of metrics.json that a line of results takes over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where the things lie that runs share."""

    model: str
    """What `sft-edge --model` takes."""

    healed: Mapping[str, str]
    """What it takes for a model that was healed, by how it was."""

    shape: ModelShape
    """The model's sizes."""

    data: Path
    """Holds one folder for each task."""

    runs: Path
    """Gets each run's folder, for as long as it runs."""

    machine: dict[str, Any]
    """What the results say of this machine."""


def execute(run: Run, cloud: LocalCloud, place: Place) -> Line:
    """Train once and return the line of results; if the edge fails, a line that says why.

    Raises:
        UnreachableError: the cloud does not start.
    """
    model = place.healed[run.healed] if run.healed else place.model
    where = ("--server", cloud.address(), "--model", model, "--runs-dir", place.runs)
    data = ("--data", place.data / run.task)
    show = ("--name", "run", "--quiet", "--json")
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            command("sft_edge", "train", *where, *data, *show, *run.arguments()),
            capture_output=True,
            text=True,
            errors="replace",
        )
    finally:
        shutil.rmtree(place.runs, ignore_errors=True)
    seconds = time.perf_counter() - begin
    try:
        return good_line(run, _metrics(done), place, seconds)
    except SftError as error:
        return error_line(run, str(error), place)


def good_line(run: Run, metrics: dict[str, Any], place: Place, seconds: float) -> Line:
    """Return what is kept of a run's metrics.json; `seconds` is how long the edge's process ran."""
    kept = {name: metrics[name] for name in KEPT}
    kept["seconds"] = {**kept["seconds"], "process": round(seconds, 3)}
    width = run.wire_width(place.shape)
    return {**_head(run), "wire_numbers_per_token": width, **kept, **_tail(run, place)}


def error_line(run: Run, message: str, place: Place) -> Line:
    """Return the line of a run that failed."""
    return {**_head(run), "error": message, **_tail(run, place)}


def _metrics(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode:
        raise SftError(last_line(done.stderr) or f"sft-edge ended with {done.returncode}")
    try:
        metrics: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise SftError(f"sft-edge --json printed no JSON: {error}") from error
    return metrics


def _head(run: Run) -> Line:
    return dict(zip(KEY_FIELDS, run.key(), strict=True))


def _tail(run: Run, place: Place) -> Line:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"options": run.arguments(), "date": now, "machine": place.machine}
