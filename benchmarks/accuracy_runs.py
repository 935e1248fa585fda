"""Runs one line of the grid through the real programs: a cloud on loopback and an edge.

Nothing is trained in this process. Whatever the programs write lies in a folder that the caller
throws away.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.accuracy_results import Line
from benchmarks.grid import KEY_FIELDS, Run
from sft_common.config import ModelShape
from sft_common.errors import SftError, UnreachableError

START_SECONDS = 120.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05

KEPT = ("steps", "examples", "metric", "metrics", "bytes", "seconds", "peak_rss_bytes", "versions")
"""Entries of metrics.json that a line of results takes over."""


class LocalCloud:
    """An `sft-cloud serve` on a free port of loopback; use as a context.

    Args:
        folder: gets its log and the file with its port.
    """

    def __init__(self, folder: Path) -> None:
        self._log, self._port_file = folder / "cloud.log", folder / "port"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalCloud:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def address(self) -> str:
        """Return host:port of the cloud, starting it first if it does not run, or no more.

        Raises:
            UnreachableError: it does not start.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        return f"127.0.0.1:{self._port(self._process)}"

    def _start(self) -> subprocess.Popen[bytes]:
        self._port_file.unlink(missing_ok=True)
        serve = ("serve", "--cpu", "--port", "0", "--port-file", str(self._port_file))
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                command("sft_cloud", *serve, "--grace", "1"), stdout=log, stderr=log
            )

    def _port(self, process: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + START_SECONDS
        while not self._port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = last_line(self._log.read_text(errors="replace"))
                raise UnreachableError(f"the cloud did not start: {said or 'it said nothing'}")
            time.sleep(POLL_SECONDS)
        return int(self._port_file.read_text())


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


def machine() -> dict[str, Any]:
    """Return what the results say of this machine: no name, no address."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "cpu": _cpu_model(), "torch_threads": torch.get_num_threads()}


def command(module: str, *arguments: object) -> list[str]:
    """Return the command line of one of the two programs in this very Python."""
    start = f"import sys; from {module}.cli import main; main(sys.argv[1:])"
    return [sys.executable, "-c", start, *map(str, arguments)]


def last_line(text: str) -> str:
    """Return the last line that holds something, or nothing."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


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


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
