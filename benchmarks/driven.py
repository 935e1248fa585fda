"""A process that takes orders: says "ready", then answers every line with a line."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.programs import last_line
from sft_common.errors import SftError

ANSWER_SECONDS = 300.0
"""How long an answer may take."""

STOP_SECONDS = 20.0


class Driven:
    """Use as a context; it, and whatever it has started, ends with the block.

    Args:
        command: what to run; it ends when its input does.
        log: gets what it says besides.
        environment: added to this process's own.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command, self._log = command, log
        self._environment = {**os.environ, **(environment or {})}
        self._answers = b""
        self.ready = ""
        """What it said behind "ready"."""

    def __enter__(self) -> Driven:
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=self._environment,
                start_new_session=True,
            )
        try:
            word, _, self.ready = self._line().partition(" ")
            if word != "ready":
                raise SftError(f"{self._name()} said {word!r} where it should be ready")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def ask(self, order: str) -> str:
        """Return the answer to a line.

        Raises:
            SftError: it has died, or says nothing.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is said by `_line`
            self._process.stdin.write(f"{order}\n".encode())
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise SftError(f"{self._name()} has not answered for {ANSWER_SECONDS:g} s")
            data = os.read(self._process.stdout.fileno(), 65_536)
            if not data:
                said = last_line(self._log.read_text(errors="replace"))
                raise SftError(f"{self._name()} died: {said or 'it said nothing'}")
            self._answers += data
        line, _, self._answers = self._answers.partition(b"\n")
        return line.decode().strip()

    def _name(self) -> str:
        return self._log.stem

    def _stop(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
