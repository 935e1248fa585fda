"""Log lines: whatever a peer says stays inside its own, which names session and step."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_cloud.logs import About, JsonLines, TextLines, set_about, set_up_logs, visible

FORGED = "x\n2026-01-01 00:00:00,000 INFO session 00 opened\r\x1b[2J\u2028\u202e\x85\0"


@pytest.fixture
def logged() -> Iterator[Callable[[str], io.StringIO]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def begin(kind: str) -> io.StringIO:
        set_up_logs(kind, stream := io.StringIO())
        return stream

    yield begin
    root.handlers[:] = handlers
    root.setLevel(level)


Begin = Callable[[str], io.StringIO]
log = logging.getLogger("sft_cloud.test")


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_peer_cannot_forge_a_line(logged: Begin, kind: str) -> None:
    stream = logged(kind)
    log.warning("refused: %s", FORGED)
    [line] = stream.getvalue().splitlines()
    assert line.isprintable()


@pytest.mark.parametrize("kind", ["text", "json"])
def test_nor_in_a_traceback(logged: Begin, kind: str) -> None:
    stream = logged(kind)
    try:
        fail(FORGED)
    except ValueError:
        log.exception("failed")
    first, *trace = stream.getvalue().splitlines()
    assert "failed" in first and first.isprintable()
    assert all(line.startswith("    | ") and line.isprintable() for line in trace)
    assert bool(trace) == (kind == "text")


@given(st.text())
def test_a_text_made_visible_is_one_line_that_can_be_printed(text: str) -> None:
    seen = visible(text)
    assert seen.isprintable()
    assert seen == text or not text.isprintable()


def test_lines_of_a_federation_name_it(logged: Begin) -> None:
    async def lead() -> None:
        set_about(About(federation="hospitals"))
        log.info("begins")
        log.info("hospitals goes on")

    stream = logged("json")
    asyncio.run(lead())
    log.info("written", extra=About(federation="hospitals").extra())
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["federation"] for line in found] == ["hospitals"] * 3
    assert not any("session" in line for line in found)
    stream = logged("text")
    asyncio.run(lead())
    begins, goes_on = stream.getvalue().splitlines()
    assert begins.endswith("begins [federation hospitals]") and goes_on.endswith("goes on")


def test_lines_of_a_task_are_about_its_session(logged: Begin) -> None:
    stream = logged("json")

    async def stream_of(name: str) -> None:
        about = About(name, 0)
        set_about(about)
        log.info("begins")
        await asyncio.sleep(0)
        about.step = 7
        log.info("goes on")
        log.info("puts another away", extra=About("ef" * 8, 3).extra())

    async def main() -> None:
        await asyncio.gather(stream_of("ab" * 8), stream_of("cd" * 8))
        log.info("nobody's")

    asyncio.run(main())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    said = [(line["message"], line.get("session"), line.get("step")) for line in lines]
    for name in ("ab" * 8, "cd" * 8):
        assert ("begins", name, 0) in said and ("goes on", name, 7) in said
    assert said.count(("puts another away", "ef" * 8, 3)) == 2
    assert ("nobody's", None, None) in said


def test_a_line_of_json_says_what_went_wrong(logged: Begin) -> None:
    stream = logged("json")
    try:
        fail("no")
    except ValueError:
        log.exception("%s failed", "a session")
    log.warning("refused", extra={"error": "ConfigError"})
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.keys() == {"time", "level", "logger", "message", "error", "traceback"}
    assert (first["level"], first["message"], first["error"]) == (
        "ERROR",
        "a session failed",
        "ValueError",
    )
    assert first["traceback"].endswith("ValueError: no")
    assert second["error"] == "ConfigError" and "traceback" not in second


@pytest.mark.parametrize(
    ("message", "about", "ending"),
    [
        ("idle", {}, "WARNING idle"),
        ("refused", {"session": "ab12", "step": 4}, "WARNING refused [session ab12, step 4]"),
        ("session ab12 left", {"session": "ab12", "step": 4}, "session ab12 left [step 4]"),
        ("session ab12 left", {"session": "ab12"}, "WARNING session ab12 left"),
    ],
)
def test_a_line_of_text_says_everything_once(
    logged: Begin, message: str, about: dict[str, Any], ending: str
) -> None:
    stream = logged("text")
    log.warning(message, extra=about)
    assert stream.getvalue().endswith(f"{ending}\n")


def test_requests_to_a_hub_are_not_logged(logged: Begin) -> None:
    """Their addresses may carry a signature."""
    stream = logged("text")
    logging.getLogger("httpx").info("GET https://hub.example/model?signature=secret")
    assert stream.getvalue() == ""
    assert isinstance(logging.getLogger().handlers[0].formatter, TextLines | JsonLines)
