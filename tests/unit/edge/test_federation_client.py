"""A client of a federation with a method and a cloud by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft_common.errors import RetryLaterError, SessionLostError, SftError, UnreachableError
from sft_common.federation.said import Attempt, Ended, Finding, Over, Work
from sft_common.federation.tensors import tensors_to_bytes
from sft_edge.federation import attendance, client
from sft_edge.federation.attendance import Abandoned, Attendance
from sft_edge.federation.calls import Member
from sft_edge.federation.client import Client
from sft_edge.federation.done import Done
from sft_edge.federation.folder import ClientFolder
from sft_edge.retrying import Retry
from sft_edge.traffic import Traffic

AT = Attempt(2, 2, 77)
MEMBER = Member("f", "a", 1, "")


class Method:
    """Does nothing; what it is told to raise or to find, it does."""

    shapes: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, *, trouble: SftError | None = None, loss: float = 1.0) -> None:
        self._trouble, self._loss = trouble, loss
        self.trained = 0

    def take(self, tensors: object) -> None: ...

    def begin(self, at: Attempt) -> None: ...

    def end(self) -> None: ...

    def evaluate(self, check: object) -> Finding:
        return Finding(examples=3, metric="accuracy", value=0.5, loss=self._loss)

    def train(self, at: Attempt, check: object) -> Done:
        self.trained += 1
        if self._trouble is not None:
            raise self._trouble
        return Done(weight=4)


class Heard:
    """Says what the test wants, and then the end."""

    def __init__(self, *said: object) -> None:
        self._said = [*said, Ended(tensors_to_bytes({}))]

    def hear(self, seconds: float) -> object:
        return self._said.pop(0)

    def begin(self, at: Attempt) -> None: ...

    def end(self) -> None: ...


@pytest.fixture
def handed_in(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the cloud was handed."""
    known: list[Any] = []

    def hand_in(access: object, member: object, at: object, done: object, traffic: object) -> str:
        known.append(done)
        return ""

    monkeypatch.setattr(client, "hand_in", hand_in)
    return known


def run(method: Method, folder: Path, *said: object, retry_for: float = 0.0) -> list[str]:
    """Have a client do what it is told; returns what it said."""
    lines: list[str] = []
    log = ClientFolder(folder, "f")
    material: Any = SimpleNamespace(
        options=argparse.Namespace(retry_for=retry_for, retry_pause=1.0),
        access=None,
        plan=SimpleNamespace(privacy=None),
    )
    with log.locked():
        heard: Any = Heard(*said)
        known: Any = method
        Client(
            material, MEMBER, known, heard, [Traffic()],
            say=lines.append, log=log.log, stopped=lambda: False,
        ).run()  # fmt: skip
    return lines


def test_a_client_whose_session_is_lost_tells_the_cloud(
    handed_in: list[Any], tmp_path: Path
) -> None:
    """Or all others would wait for it until the deadline."""
    lost = SessionLostError("session 1234 is not known here")
    lines = run(Method(trouble=lost), tmp_path / "a", Work(AT, "train", False, b""))
    assert handed_in == ["session 1234 is not known here"]
    assert "does not count: session 1234" in lines[-1]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_an_average_that_is_worth_no_number_is_said_and_not_told(
    handed_in: list[Any], tmp_path: Path, loss: float
) -> None:
    lines = run(Method(loss=loss), tmp_path / "a", Work(AT, "train", True, b""))
    assert [done.finding for done in handed_in] == [None]
    assert f"the average is worth nothing: accuracy 0.5, loss {loss}" in lines
    assert '"average": null' in (tmp_path / "a" / "history.jsonl").read_text()


def test_a_cloud_without_room_for_the_update_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = RetryLaterError("the cloud's disk takes no update: No space left on device")
    answers: list[Exception | str] = [full, UnreachableError("lost"), full, ""]

    def hand_in(*given: object) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(client, "hand_in", hand_in)
    monkeypatch.setattr(client, "pause", lambda seconds, stopped: None)
    lines = run(Method(), tmp_path / "a", Work(AT, "train", False, b""), retry_for=60.0)
    assert lines[0] == f"{full}; trying again"
    assert len(lines) == 2 and lines[1].endswith("handed in") and not answers


def attending(monkeypatch: pytest.MonkeyPatch, *calls: list[Any]) -> Attendance:
    """Return an attendance whose cloud says so much in each call, the last of which is refused."""
    left = list(calls)

    def attend(*given: object) -> Any:
        said = left.pop(0)
        yield from said
        if not left:
            raise SftError("this client has lost its place")
        raise UnreachableError("lost")

    monkeypatch.setattr(attendance, "attend", attend)
    model: Any = None
    access: Any = None
    retry = Retry(first_seconds=0.01, most_seconds=0.01)
    return Attendance(access, MEMBER, model, retry, lambda line: None, Traffic())


def test_work_that_is_told_again_after_a_loss_is_done_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work, other = Work(AT, "train", False, b""), Work(AT._replace(number=3), "train", False, b"")
    stream = attending(monkeypatch, [work], [work, Over(AT, "late"), other], [other])
    heard = [stream.hear(5.0) for _ in range(3)]
    assert heard == [work, Over(AT, "late"), other]
    with pytest.raises(SftError, match="lost its place"):
        stream.hear(5.0)
    stream.begin(other.attempt)
    with pytest.raises(Abandoned):
        while True:
            stream.check()
