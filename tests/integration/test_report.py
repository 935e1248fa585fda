"""Reports of real runs: every run ends with one, and a real browser shows it on a phone."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sft_edge.recorder import Recorder
from sft_edge.stopping import Interrupted
from tests.browser import (
    CONTRAST,
    DESK,
    PHONE,
    SMALLEST_TEXT,
    Scheme,
    check,
    opened,
    running_browser,
)
from tests.processes import Cloud, edge_here, running_cloud, train_here, write_rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GOOD, BAD = "a lovely quiet room and fine food", "awful staff never again"
ROWS = [{"sentence": GOOD if n % 2 else BAD, "label": n % 2} for n in range(48)]
HOSTILE = "<script>alert(1)<\\script>\"'<img src=x onerror=alert(2)> & " + "x" * 100
TOKEN = "a-token-that-nobody-may-read"

PICTURES = {"split": 5, "frozen": 4, HOSTILE: 5}
"""Runs, and how many pictures they have."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    place = tmp_path_factory.mktemp("cloud")
    with running_cloud(place, "--save-dir", place / "saved") as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data"), ROWS, ROWS[:16])


def line(cloud: Cloud, model: Path, data: Path) -> list[object]:
    return [
        *("--task", "sst2", "--model", model, "--data", data, "--server", cloud.server),
        *("--rank", 4, "--batch-size", 8, "--epochs", 2, "--learning-rate", 3e-3, "--log-every", 1),
    ]


@pytest.fixture(scope="module")
def runs(
    cloud: Cloud, data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    shared = line(cloud, tiny_model, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_TOKEN", TOKEN)
        train_here(folder, *shared, "--unsplit", name="split")
    train_here(folder, *shared, "--edge", "frozen", name="frozen")
    train_here(folder, *shared, "--cut", "none", "--micro-batches", 1, name=HOSTILE)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


def text_of(page: Path) -> str:
    return html.unescape(re.sub("<[^>]*>", "", page.read_text()))


def facts(runs: Path, run: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((runs / run / name).read_text())
    return found


@pytest.mark.parametrize("run", PICTURES, ids=["split", "frozen", "hostile"])
def test_every_run_ends_with_a_report_that_can_be_drawn_anew(runs: Path, run: str) -> None:
    report = runs / run / "report.html"
    drawn = report.read_text()
    assert drawn.count("<svg") == PICTURES[run]
    report.unlink()
    done = edge_here("report", runs / run)
    assert done.returncode == 0, done.stderr
    assert report.read_text() == drawn


@pytest.mark.parametrize("run", PICTURES, ids=["split", "frozen", "hostile"])
def test_command_and_machine_are_kept_and_no_token(runs: Path, run: str, data: Path) -> None:
    arguments = facts(runs, run, "job.json")["arguments"]
    assert arguments[arguments.index("--data") + 1] == str(data)
    assert arguments[arguments.index("--name") + 1] == run
    machine = facts(runs, run, "metrics.json")["machine"]
    assert machine["processors"] >= 1 and machine["threads"] >= 1 and machine["device"] == "cpu"
    assert machine["memory_bytes"] > 1e8
    for path in (runs / run).glob("*.*"):
        assert TOKEN.encode() not in path.read_bytes()


@pytest.mark.parametrize("snapshots", [1, 0])
def test_a_resumed_run_keeps_the_command_that_began_it(
    cloud: Cloud,
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    snapshots: int,
) -> None:
    """With snapshots it goes on behind one of them; without it begins with the first step."""
    shared = [*line(cloud, tiny_model, data), "--snapshot-every", snapshots]

    def stop(self: Recorder, *_: object) -> None:
        raise Interrupted(1)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "evaluated", stop)
        stopped = edge_here("train", "--runs-dir", tmp_path, "--name", "run", *shared)
    assert stopped.returncode == 130, stopped.stderr
    assert not (tmp_path / "run" / "report.html").exists()
    unfinished = edge_here("report", tmp_path / "run")
    assert unfinished.returncode == 0, unfinished.stderr
    page = text_of(tmp_path / "run" / "report.html")
    assert "has not come to its end" in page and "--learning-rate 0.003" in page

    done = edge_here("train", "--resume", tmp_path / "run", "--log-every", 2)
    assert done.returncode == 0, done.stderr
    assert f"pictures of it are in {tmp_path / 'run' / 'report.html'}" in done.stdout
    given = facts(tmp_path, "run", "job.json")["arguments"]
    assert given == [*map(str, ("--runs-dir", tmp_path, "--name", "run", *shared))]
    assert done.stderr.count("going on behind step 6") == snapshots
    page = text_of(tmp_path / "run" / "report.html")
    assert "has not come to its end" not in page
    assert shlex.join(["sft-edge", "train", *given]) in page


def test_a_fetched_run_has_a_report(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    shared = (*line(cloud, tiny_model, data), "--edge", "frozen", "--detach")
    left = edge_here("train", "--runs-dir", tmp_path, "--name", "run", *shared)
    assert left.returncode == 0, left.stderr
    report = tmp_path / "run" / "report.html"
    assert edge_here("report", tmp_path / "run").returncode == 0
    assert f"sft-edge fetch --run {tmp_path / 'run'}" in text_of(report)
    done = edge_here("fetch", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert f"pictures of it are in {report}" in done.stdout
    assert "has not come to its end" not in text_of(report)
    assert "--detach" in text_of(report)


def test_a_run_whose_report_cannot_be_written_is_a_good_run(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sft_edge.report.writing.report_of", full)
    arguments = ("--runs-dir", tmp_path, "--name", "run", *line(cloud, tiny_model, data))
    done = edge_here("train", "--quiet", *arguments)
    assert done.returncode == 0
    assert done.stderr == (
        "sft-edge: warning: no report.html was written: [Errno 28] No space left on device\n"
    )
    assert facts(tmp_path, "run", "metrics.json")["steps"] == 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK])
@pytest.mark.parametrize("run", PICTURES, ids=["split", "frozen", "hostile"])
def test_a_browser_shows_every_picture_and_asks_for_nothing(
    browser: Browser, runs: Path, run: str, size: tuple[int, int], scheme: Scheme
) -> None:
    file = runs / run / "report.html"
    with opened(browser, file, size, scheme) as seen:
        check(seen, file, PICTURES[run])
        assert seen.page.locator("h1").inner_text() == run
        assert seen.page.evaluate(SMALLEST_TEXT) >= 11
        text, curve = seen.page.evaluate(CONTRAST)
        assert text >= 4.5 and curve >= 3
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(245, 246, 248)", "dark": "rgb(17, 21, 27)"}[scheme]
        for closed in seen.page.locator("details").all():
            closed.locator("summary").click()
        assert seen.page.locator("details table").first.is_visible()
        check(seen, file, PICTURES[run])


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_a_browser_shows_runs_over_one_another(
    browser: Browser, runs: Path, size: tuple[int, int], tmp_path: Path
) -> None:
    file = tmp_path / "all.html"
    done = edge_here("report", *(runs / run for run in PICTURES), "--to", file)
    assert done.returncode == 0, done.stderr
    with opened(browser, file, size, "light") as seen:
        check(seen, file, 5)
        names = seen.page.locator("main > .legend li").all_inner_texts()
        assert names == list(PICTURES)
        curves = seen.page.locator("section", has_text="Training loss").locator("path.curve")
        assert curves.count() == 3
        assert (
            len({one.evaluate("one => getComputedStyle(one).stroke") for one in curves.all()}) == 3
        )
        differs = seen.page.locator("section", has_text="What differs")
        assert differs.locator("tr", has_text="cut").first.locator("td").all_inner_texts() == [
            *("stream", "stream", "none")
        ]
