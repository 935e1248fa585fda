"""A session is opened again and again, with pauses as long as the options say."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sft_common.errors import UnreachableError
from sft_edge import opening
from sft_edge.retrying import Retry


def test_no_pause_is_longer_than_the_longest_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []
    monkeypatch.setattr(opening, "pause", lambda seconds, stopped: paused.append(seconds))
    retry = Retry.of(argparse.Namespace(retry_for=3600.0, retry_pause=0.5))
    session: Any = SimpleNamespace(stream=SimpleNamespace())
    answers: Iterator[Any] = iter([UnreachableError("the link is cut")] * 40 + [session])

    def attempt() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    said: list[str] = []
    found = opening.patiently(
        attempt, UnreachableError, wait=0, retry=retry, say=said.append, stopped=lambda: False
    )
    assert found is session and said == ["the link is cut; trying again for up to 3600 s"]
    assert len(paused) == 40 and 0 < max(paused) <= 0.5
