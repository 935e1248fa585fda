"""Real processes that start at once: forked from one that has imported everything and run nothing.

A program's imports take seconds, which a test that kills it twenty times would wait for each time.
A program with environment variables of its own is forked from one that has imported nothing that
reads them: it starts in a third of the time.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 60.0

EVERYTHING = (
    "scipy.stats",
    "torch._dynamo",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.trainer",
    "sft_cloud.cli",
    "sft_cloud.serve",
    "sft_edge.cli",
    "sft_edge.run",
)
WITHOUT_ENVIRONMENT = (
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "torch._dynamo",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
)
"""Of what programs import, what takes longest and knows no variable of a hub or of gRPC."""


def _serve_forks(modules: Sequence[str]) -> None:
    """Fork a program for each line; answers with its pid, or with how it ended."""
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            pid, status = os.waitpid(asked["wait"], os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if pid else "", flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            _become(**asked)


def _main_of(program: str) -> Callable[[list[str]], None]:
    if program == "python":
        return _run_script
    main: Callable[[list[str]], None]
    main = importlib.import_module(f"{program.replace('-', '_')}.cli").main
    return main


def _run_script(arguments: list[str]) -> None:
    """Run a script, and at its end what it has left for the end."""
    sys.argv = arguments
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        sys.exit(0)
    finally:
        atexit._run_exitfuncs()


def _become(
    program: str,
    arguments: list[str],
    out: str,
    err: str,
    place: str,
    environment: dict[str, str],
) -> None:
    """Be a program from here on."""
    os.chdir(place)
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        with open(path, "ab", buffering=0) as file:
            os.dup2(file.fileno(), number)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        _main_of(program)(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Program:
    """A running program, with what a `subprocess.Popen` has of it."""

    def __init__(self, forge: Forge, pid: int, log: Path) -> None:
        self._forge, self.pid, self.log = forge, pid, log
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        if self._code is None:
            self._code = self._forge.poll(self.pid)
        return self._code

    def wait(self, timeout: float = SECONDS) -> int:
        """Return its exit code once it has ended; `timeout` in seconds."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"still runs:\n{self.log.read_text()}"
            time.sleep(0.01)
        return code

    def said(self) -> str:
        """Return what it has said, once it has come to a good end."""
        assert self.wait(2 * SECONDS) == 0, self.log.read_text()
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        while text not in self.log.read_text():
            assert self.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def terminate(self) -> None:
        """Ask it to end, if it still runs."""
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()


@dataclass
class Forge:
    """Starts programs."""

    process: subprocess.Popen[str]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(
        self,
        program: str,
        arguments: Sequence[object],
        log: Path,
        err: Path | None = None,
        place: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start one of the two programs, or "python" with a script.

        Args:
            program: its name.
            arguments: of its command line.
            log: what it prints is appended here.
            err: what it prints as errors, if that is to be apart.
            place: the folder that it is in; None: that of the tests.
            environment: variables beside those of the tests.
        """
        asked = {
            "program": program,
            "arguments": list(map(str, arguments)),
            "out": str(log),
            "err": str(err or log),
            "place": str(place or Path.cwd()),
            "environment": dict(environment or {}),
        }
        return Program(self, int(self._ask(asked)), log)

    def script(self, place: Path, file: Path, *arguments: object) -> Program:
        """Start a script in a folder, where it has its log."""
        place.mkdir(exist_ok=True)
        log = place / f"{file.stem}.log"
        log.write_text("")
        return self.start("python", [file, *arguments], log, place=place)

    def poll(self, pid: int) -> int | None:
        """Return how a program ended, None while it runs."""
        answer = self._ask({"wait": pid})
        return int(answer) if answer else None

    def _ask(self, asked: object) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        with self.lock:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
            return self.process.stdout.readline().strip()


class RestartedCloud:
    """A cloud that keeps its port and its folder through many lives.

    Args:
        forge: starts it.
        folder: of its sessions and its log.
        arguments: of `sft-cloud serve`, beside where and on what.
    """

    def __init__(self, forge: Forge, folder: Path, *arguments: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._forge, self._arguments = forge, arguments
        self.folder, self.log = folder, folder / "cloud.log"
        self.sessions = folder / "sessions"
        self.port = 0
        self.program = self.start()

    @property
    def server(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Program:
        """Start it, and wait until it listens."""
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        line = ["serve", "--cpu", "--port", self.port, "--port-file", port_file]
        line += ["--save-dir", self.sessions, *self._arguments]
        self.program = self._forge.start("sft-cloud", line, self.log)
        end = time.monotonic() + SECONDS
        while not port_file.exists():
            alive = self.program.poll() is None and time.monotonic() < end
            assert alive, f"the cloud did not start:\n{self.log.read_text()}"
            time.sleep(0.01)
        self.port = int(port_file.read_text())
        return self.program

    def half(self, session_id: str) -> bytes:
        """Return the trained net2 of a finished session."""
        return (self.sessions / session_id / "cloud.safetensors").read_bytes()


@functools.cache
def forge(modules: Sequence[str] = EVERYTHING) -> Forge:
    """Return what starts programs in this process of tests; it ends with it."""
    code = "import sys; from tests.warm import _serve_forks; _serve_forks(sys.argv[1:])"
    line = [sys.executable, "-c", code, *modules]
    process = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    atexit.register(os.killpg, process.pid, signal.SIGKILL)
    return Forge(process)


def forge_for(environment: Mapping[str, str] | None) -> Forge:
    """Return what starts programs with such variables, of which imports may read some."""
    return forge() if environment is None else forge(WITHOUT_ENVIRONMENT)
