"""Takes part in a federation on a thread of its own, through lost connections.

What there is to do waits in a queue; whether what is being done still counts can be asked any time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from sft_common.config import ModelIdentity
from sft_common.errors import SftError, UnreachableError, first_line
from sft_common.federation.said import Attempt, Ended, Over, Said, Work
from sft_common.rpc.access import Access
from sft_edge.federation.calls import Member, attend
from sft_edge.retrying import Retry, pause
from sft_edge.traffic import Traffic


class Abandoned(Exception):
    """What a client works on does not count any more."""


class Attendance:
    """One client's stream to its cloud, kept up until the federation ends.

    Args:
        access: to the cloud.
        member: who takes part.
        model: what the client holds.
        retry: how long to try again when the cloud is lost.
        say: tells a person.
        traffic: counts the bytes.
    """

    def __init__(
        self,
        access: Access,
        member: Member,
        model: ModelIdentity,
        retry: Retry,
        say: Callable[[str], None],
        traffic: Traffic,
    ) -> None:
        self._access, self._member, self._model = access, member, model
        self._retry, self._say, self._traffic = retry, say, traffic
        self._said: queue.SimpleQueue[Said | Exception] = queue.SimpleQueue()
        self._at: Attempt | None = None
        self._told: Attempt | None = None
        self._over: set[Attempt] = set()
        self._lost = False
        self._closed = threading.Event()
        self._call: Any = None
        threading.Thread(target=self._follow, name="attendance", daemon=True).start()

    def hear(self, seconds: float) -> Said | None:
        """Return what the cloud says next; None: nothing came within so many seconds.

        Raises:
            SftError: the cloud refuses the client, or is lost for good.
        """
        try:
            said = self._said.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(said, Exception):
            raise said
        return said

    def begin(self, attempt: Attempt) -> None:
        """Say what is being worked on from now on."""
        self._at = attempt

    def end(self) -> None:
        """Say that nothing is being worked on."""
        self._at = None

    def check(self) -> None:
        """Look whether what is being worked on still counts.

        Raises:
            Abandoned: it does not, or the cloud refuses this client; `hear` says why.
        """
        if self._lost or self._at in self._over:
            raise Abandoned

    def close(self) -> None:
        """Leave."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def _follow(self) -> None:
        try:
            self._stay()
        except Exception as error:
            self._said.put(error)
            self._lost = not isinstance(error, UnreachableError)

    def _stay(self) -> None:
        pauses, lost = self._retry.pauses(), None
        while not self._closed.is_set():
            try:
                for said in attend(
                    self._access, self._member, self._model, self._at, self._traffic, self._keep
                ):
                    if lost is not None:
                        self._say("the cloud is back")
                    pauses, lost = self._retry.pauses(), None
                    if isinstance(said, Over):
                        self._over.add(said.attempt)
                    if not self._told_before(said):
                        self._said.put(said)
                    if isinstance(said, Ended):
                        return
            except UnreachableError as error:
                if self._closed.is_set():
                    return
                now = time.monotonic()
                if lost is None:
                    lost = now
                    self._tell_lost(error)
                if now - lost >= self._retry.for_seconds:
                    raise
            pause(next(pauses), stopped=self._closed.is_set)

    def _told_before(self, said: Said) -> bool:
        """Return whether it is work that waits already, or was done: told anew after a loss."""
        if not isinstance(said, Work):
            return False
        before, self._told = self._told, said.attempt
        return before == said.attempt

    def _tell_lost(self, error: SftError) -> None:
        seconds = self._retry.for_seconds
        if seconds:
            self._say(f"{first_line(error)}; trying again for up to {seconds:g} s")

    def _keep(self, call: Any) -> None:
        self._call = call
        if self._closed.is_set():
            call.cancel()
