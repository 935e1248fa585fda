"""Starts the programs that benchmarks measure, and says on what machine. It measures nothing."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from sft_common.errors import ConfigError, UnreachableError

START_SECONDS = 120.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05


class LocalCloud:
    """A cloud on a free port of loopback; use as a context.

    Args:
        folder: gets its log and the file with its port.
        serve: the command, which takes --port and --port-file; None: `sft-cloud serve`.
    """

    def __init__(self, folder: Path, serve: Sequence[str] | None = None) -> None:
        self._serve = serve or command("sft_cloud", "serve", "--cpu", "--grace", "1")
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
        """Return host:port of the cloud on loopback; as `port`."""
        return f"127.0.0.1:{self.port()}"

    def port(self) -> int:
        """Return the port of the cloud, starting it first if it does not run, or no more.

        Raises:
            UnreachableError: it does not start.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        deadline = time.monotonic() + START_SECONDS
        while not self._port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = last_line(self._log.read_text(errors="replace"))
                raise UnreachableError(f"the cloud did not start: {said or 'it said nothing'}")
            time.sleep(POLL_SECONDS)
        return int(self._port_file.read_text())

    @property
    def pid(self) -> int:
        """Number of the process, which `address` has started."""
        assert self._process is not None
        return self._process.pid

    def _start(self) -> subprocess.Popen[bytes]:
        self._port_file.unlink(missing_ok=True)
        serve = [*self._serve, "--port", "0", "--port-file", str(self._port_file)]
        with open(self._log, "ab") as log:
            return subprocess.Popen(serve, stdout=log, stderr=log)


def command(module: str, *arguments: object) -> list[str]:
    """Return the command line of one of the two programs in this very Python."""
    start = f"import sys; from {module}.cli import main; main(sys.argv[1:])"
    return [sys.executable, "-c", start, *map(str, arguments)]


def on_core(core: int, program: Sequence[str]) -> list[str]:
    """Return a command line with one core, and one thread of torch, to itself."""
    return ["env", "OMP_NUM_THREADS=1", "taskset", "-c", str(core), *program]


def both_cores() -> tuple[int, int]:
    """Return the core of the edge and that of everything else.

    Raises:
        ConfigError: this process may use one core only.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ConfigError("edge and cloud need a core each; this process may use one")
    return cores[0], cores[-1]


def last_line(text: str) -> str:
    """Return the last line that holds something, or nothing."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signals = [signal.SIGTERM, signal.SIGHUP]
    before = {s: signal.getsignal(s) for s in signals if signal.getsignal(s) is signal.SIG_DFL}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def machine() -> dict[str, Any]:
    """Return what the results say of this machine: no name, no address."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "cpu": _cpu_model(), "torch_threads": torch.get_num_threads()}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
