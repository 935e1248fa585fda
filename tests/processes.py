"""Real processes over real sockets: a cloud, an edge, and what they say."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import Program, forge_for

START_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A running `sft-cloud serve`."""

    port: int
    process: subprocess.Popen[bytes] | Program
    log: Path

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"


def command(program: str, *arguments: object) -> list[str]:
    """Return the command line of one of the two programs in this very Python."""
    module = {"sft-cloud": "sft_cloud", "sft-edge": "sft_edge"}[program]
    start = f"import sys; from {module}.cli import main; main(sys.argv[1:])"
    return [sys.executable, "-c", start, *map(str, arguments)]


def free_place() -> str:
    """Return a "host:port" of loopback where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def running_cloud(
    folder: Path,
    *arguments: object,
    device: Sequence[object] = ("--cpu",),
    environment: dict[str, str] | None = None,
    own_line: bool = False,
) -> Iterator[Cloud]:
    """Run a cloud on a free port of loopback until the block ends.

    Args:
        folder: where its log is.
        arguments: of `sft-cloud serve`.
        device: those that say on what.
        environment: variables beside those of the tests.
        own_line: whether its command line is to be its own, and not that of tests/warm.py.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port_file, log = folder / "port", folder / "cloud.log"
    port_file.unlink(missing_ok=True)
    line = ["serve", *device, "--port", 0, "--port-file", port_file, *arguments]
    if "--save-dir" not in arguments:
        line.append("--no-save")
    log.unlink(missing_ok=True)
    process: subprocess.Popen[bytes] | Program
    if own_line:
        with open(log, "wb") as output:
            process = subprocess.Popen(command("sft-cloud", *line), stdout=output, stderr=output)
    else:
        process = forge_for(environment).start("sft-cloud", line, log, environment=environment)
    try:
        yield Cloud(port=_port(port_file, process, log), process=process, log=log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(port_file: Path, process: subprocess.Popen[bytes] | Program, log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the cloud did not start:\n{log.read_text()}")
        time.sleep(0.05)
    return int(port_file.read_text())


def run(
    program: str,
    *arguments: object,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    timeout: float = 280,
) -> subprocess.CompletedProcess[str]:
    """Run one of the two programs to its end, which starts at once; `timeout` in seconds."""
    with tempfile.TemporaryDirectory(prefix="sft-said-") as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        programs = forge_for(environment)
        started = programs.start(program, arguments, out, err, cwd, environment)
        line = [program, *map(str, arguments)]
        return subprocess.CompletedProcess(
            line, started.wait(timeout), out.read_text(), err.read_text()
        )


def edge_here(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `sft-edge` in this process, which saves seconds of imports; the cloud is another one."""
    from sft_edge.cli import main

    line = [str(argument) for argument in arguments]
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(line)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())
    finally:
        sys.stdin = before
    raise AssertionError("main() must end with SystemExit")


def train_here(runs: Path, *arguments: object, name: str = "run") -> dict[str, Any]:
    """Run `sft-edge train` in this process to a good end and return its metrics.json."""
    done = edge_here("train", "--quiet", "--runs-dir", runs, "--name", name, *arguments)
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads((runs / name / "metrics.json").read_text())
    return metrics


def train(
    runs: Path, *arguments: object, name: str = "run", timeout: float = 280
) -> dict[str, Any]:
    """Run `sft-edge train` to a good end and return its metrics.json."""
    line = ("train", "--runs-dir", runs, "--name", name, *arguments)
    done = run("sft-edge", *line, timeout=timeout)
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads((runs / name / "metrics.json").read_text())
    return metrics


def history(runs: Path, name: str = "run") -> list[dict[str, Any]]:
    """Return the lines of history.jsonl."""
    lines = (runs / name / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_rows(folder: Path, train: Sequence[Any], validation: Sequence[Any]) -> Path:
    """Write both parts of a data folder as .jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", train), ("validation", validation)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(text)
    return folder
