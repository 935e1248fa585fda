"""A client's life in a federation: it hears what to do, does it, hands it in."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sft_common.errors import (
    DataError,
    ForbiddenError,
    RetryLaterError,
    SessionLostError,
    TrainingError,
    UnreachableError,
    first_line,
)
from sft_common.federation.said import Attempt, Ended, Finding, Over, Waiting, Work
from sft_common.federation.tensors import tensors_from_bytes
from sft_edge.federation.attendance import Abandoned, Attendance
from sft_edge.federation.calls import Member, hand_in
from sft_edge.federation.done import Done
from sft_edge.federation.material import Material
from sft_edge.federation.method import Method
from sft_edge.remote import Rewound
from sft_edge.retrying import Retry, pause
from sft_edge.traffic import Traffic

HEED_SECONDS = 0.2
"""How often a client that waits looks whether somebody wants it to stop."""


class Client:
    """One client of a federation, until its end.

    Args:
        material: data and model.
        member: who it is.
        method: how it trains.
        attendance: tells what there is to do.
        traffic: counters of bytes, each of one thread.
        say: tells a person.
        log: writes a line of the history.
        stopped: whether somebody wants it to stop.
    """

    def __init__(
        self,
        material: Material,
        member: Member,
        method: Method,
        attendance: Attendance,
        traffic: Sequence[Traffic],
        *,
        say: Callable[[str], None],
        log: Callable[..., None],
        stopped: Callable[[], bool],
    ) -> None:
        self._material, self._member, self._method = material, member, method
        self._attendance, self._traffic = attendance, traffic
        self._say, self._log, self._stopped = say, log, stopped
        self._given, self._told, self._waits_for = b"", (0, 0), 0
        self.rounds = 0
        """Rounds whose average this client is in."""

        self.last: dict[str, Any] | None = None
        """Metric and loss of the last average that it looked at."""

    def run(self) -> dict[str, Tensor] | None:
        """Take part until the end; returns the last average, None if somebody stopped it.

        Raises:
            SftError: the cloud refuses the client, or is lost for good.
        """
        try:
            return self._until_the_end()
        except UnreachableError:
            if self._stopped():
                return None
            raise

    def _until_the_end(self) -> dict[str, Tensor] | None:
        while not self._stopped():
            match self._attendance.hear(HEED_SECONDS):
                case Waiting() as waiting:
                    self._tell_waiting(waiting)
                case Work() as work:
                    self._do(work)
                case Ended() as ended:
                    return self._average(ended.data or self._given)
                case Over() | None:
                    pass
        return None

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes up and down so far."""
        up = sum(traffic.bytes_up for traffic in self._traffic)
        return up, sum(traffic.bytes_down for traffic in self._traffic)

    def _tell_waiting(self, waiting: Waiting) -> None:
        if waiting.present < waiting.minimum and self._waits_for != waiting.round:
            self._waits_for = waiting.round
            self._say(
                f"waiting for round {waiting.round}: {waiting.present} of at least "
                f"{waiting.minimum} clients are there"
            )

    def _do(self, work: Work) -> None:
        """Do what there is to do, and hand it in; what does not count is left alone."""
        at, begin = work.attempt, time.perf_counter()
        self._given = work.data if work.duty == "evaluate" else b""
        self._attendance.begin(at)
        done: Done | None = None
        try:
            done, refused = self._done(work), ""
            refused = self._handed_in(at, done)
        except Abandoned:
            refused = "it was stopped" if self._stopped() else "it was over before it was done"
        except ForbiddenError as over:
            refused = first_line(over)
        except (DataError, TrainingError, SessionLostError, Rewound) as error:
            refused = first_line(error)
            self._handed_in(at, refused)  # or the round would wait for this client
        finally:
            self._method.end()
            self._attendance.end()
        self._tell(work, done, refused, time.perf_counter() - begin)

    def _done(self, work: Work) -> Done:
        """Return what was to be done, once it is.

        Raises:
            Abandoned: it does not count any more.
            TrainingError: a loss is no number.
            SftError: the cloud has lost the session, or refuses it.
        """
        method, at = self._method, work.attempt
        if work.duty.startswith("calibrate"):
            shapes = method.calibration_shapes(work.duty)
            given = tensors_from_bytes(work.data, shapes, "what a calibration needs")
            return method.calibrate(work.duty, given, self._check)
        method.take(self._average(work.data))
        method.begin(at)
        finding = self._looked() if work.evaluate else None
        if work.duty == "evaluate":
            done = Done(weight=len(self._material.data.train))
        else:
            done = method.train(at, self._check)
        tells = self._material.plan.privacy is None
        return dataclasses.replace(done, finding=finding, tells_finding=tells)

    def _looked(self) -> Finding | None:
        """Return what the average is worth; None: it has come to numbers that are none."""
        found = self._method.evaluate(self._check)
        if math.isfinite(found.value) and math.isfinite(found.loss):
            return found
        self._say(f"the average is worth nothing: {found.metric} {found.value}, loss {found.loss}")
        return None

    def _check(self) -> None:
        if self._stopped():
            raise Abandoned
        self._attendance.check()

    def _average(self, data: bytes) -> dict[str, Tensor]:
        return tensors_from_bytes(data, self._method.shapes, "the average")

    def _handed_in(self, at: Attempt, done: Done | str) -> str:
        """Hand in, through lost connections; returns why it does not count, empty if it does."""
        retry = Retry.of(self._material.options)
        pauses, begin, told = retry.pauses(), time.monotonic(), ""
        while True:
            try:
                return hand_in(self._material.access, self._member, at, done, self._traffic[0])
            except UnreachableError as error:
                if time.monotonic() - begin >= retry.for_seconds or self._stopped():
                    raise
                if isinstance(error, RetryLaterError) and told != (told := str(error)):
                    self._say(f"{error}; trying again")
            pause(next(pauses), stopped=self._stopped)

    def _tell(self, work: Work, done: Done | None, refused: str, seconds: float) -> None:
        """Tell a person, and the history, what became of a try."""
        moved = self.moved
        up, down = (now - before for now, before in zip(moved, self._told, strict=True))
        self._told = moved
        found = done.finding if done else None
        facts: Mapping[str, object] = done.facts if done else {}
        if found is not None:
            self.last = {"name": found.metric, "value": found.value, "loss": found.loss}
        if work.duty == "train" and not refused:
            self.rounds += 1
        self._log(
            round=work.attempt.round,
            attempt=work.attempt.number,
            duty=work.duty,
            taken=not refused,
            reason=refused,
            seconds=round(seconds, 3),
            bytes={"up": up, "down": down},
            average=self.last if found is not None else None,
            **facts,
        )
        self._say(_line(work, done, refused, seconds, up + down))


def _line(work: Work, done: Done | None, refused: str, seconds: float, moved: int) -> str:
    what = {"train": f"round {work.attempt.round}", "evaluate": "last average"}
    parts = [what.get(work.duty, work.duty.replace("-", " of "))]
    if done is not None and (found := done.finding) is not None:
        parts.append(f"{found.metric} {found.value:.4f} before it" if work.duty == "train" else "")
        if work.duty == "evaluate":
            parts[-1] = f"{found.metric} {found.value:.4f}"
    if done is not None and isinstance(epsilon := done.facts.get("epsilon"), float):
        parts.append(f"epsilon {epsilon:.2f}")
    if done is not None and isinstance(losses := done.facts.get("losses"), list):
        parts.append(f"loss {losses[-1]:.4f}")
    parts += [f"{seconds:.1f} s", f"{moved / 1e6:.2f} MB"]
    parts.append(f"does not count: {refused}" if refused else "handed in")
    return ", ".join(parts)
