"""Pages of runs from their files alone: complete, old, unfinished, hostile and wrong ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sft_common.errors import ConfigError
from sft_edge.report.comparison import comparison_of
from sft_edge.report.single import report_of
from sft_edge.report.story import read_story
from sft_edge.report.writing import report_at_end
from tests.pages import HOSTILE, pictures, read
from tests.processes import edge_here

METRICS = {
    "task": "demo",
    "model": "m",
    "cut": "stream",
    "split_layer": 5,
    "rank": 16,
    "labels": ["negative", "positive"],
    "steps": 40,
    "metric": {"name": "accuracy", "value": 0.9125},
    "metrics": {"f1": 0.5, "accuracy": 0.9125},
    "unsplit": {"name": "accuracy", "value": 0.925},
    "bytes": {
        "up": 1_200_000,
        "down": 1_000_000,
        "split_learning_up": 59_000_000,
        "split_learning_down": 48_000_000,
        "reduction": 48.6,
    },
    "seconds": {"total": 60.0, "edge": 40.0, "wire": 5.0, "cloud": 15.0},
    "breakdown": {
        **{"edge": 38.0, "encode": 1.0, "decode": 1.0, "idle": 20.0, "up": 4.0, "down": 4.0},
        **{"queue": 1.0, "cloud": 18.0, "cloud_codec": 1.0},
    },
    "validation_loss": 0.25,
    "date": "2026-01-02T03:04:05+00:00",
    "versions": {"sft": "0.1.0"},
    "machine": {"system": "Linux", "processors": 4, "memory_bytes": 8_000_000_000},
}
JOB = {"arguments": ["--task", "demo", "--text-column", "a b", "--name", "x"]}


def lines(count: int, variant: str = "split") -> list[dict[str, Any]]:
    """Return a history with an evaluation behind the last step."""
    common = {"variant": variant, "epoch": 1}
    steps = [
        {"kind": "step", "step": n, "loss": 1 / n, "bytes_up": 300 * n, "bytes_down": 200 * n}
        for n in range(1, count + 1)
    ]
    judged = {**steps[-1], "kind": "evaluation", "loss": 0.25, "metric": "accuracy", "value": 0.9}
    return [common | line for line in (*steps, judged)]


def run_folder(
    place: Path,
    history: list[dict[str, Any]] | None = None,
    **files: dict[str, Any],
) -> Path:
    """Write a run's folder; files are named metrics, job and run."""
    place.mkdir(parents=True)
    for name, facts in files.items():
        (place / f"{name}.json").write_text(json.dumps(facts))
    if history is not None:
        (place / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    return place


def test_a_finished_run_is_all_there(tmp_path: Path) -> None:
    history = lines(40) + lines(40, "unsplit")
    folder = run_folder(tmp_path / "one", history, metrics=METRICS, job=JOB)
    found = read(report_of(read_story(folder)))
    assert pictures(found) == 5
    for part in (
        "91.25 %",
        "unsplit 92.50 %",
        "48.6 ×",
        "2.20 MB",
        "55.0 kB",  # a step
        "2.67 MB",  # of plain split learning
        "edge: computes 950 ms",
        "edge: idle 500 ms",
        "link: up 100 ms",
        "cloud: computes 450 ms",
        "negative, positive",
        "8.00 GB",
        "2026-01-02 03:04 UTC",
        "sft-edge train --task demo --text-column 'a b' --name x",
        "give it another --name",
    ):
        assert part in found.text, part


def test_bytes_of_a_step_leave_evaluations_out(tmp_path: Path) -> None:
    history = lines(10)
    history[5:5] = [{**history[-1], "step": 5, "bytes_up": 101_500, "bytes_down": 1_000}]
    for line in history[6:]:
        line["bytes_up"] += 100_000
    story = read_story(run_folder(tmp_path / "one", history))
    assert [moved for _, moved in story.step_bytes("bytes_up")] == [300.0] * 9


def test_an_older_run_shows_what_is_there(tmp_path: Path) -> None:
    for without in METRICS:
        less = {key: value for key, value in METRICS.items() if key != without}
        folder = run_folder(tmp_path / without, lines(40), metrics=less)
        assert "did not keep its command" in read(report_of(read_story(folder))).text
    odd = {key: HOSTILE if n % 2 else None for n, key in enumerate(METRICS)}
    folder = run_folder(tmp_path / "odd", [{"kind": 1}, {}, *lines(3)], metrics=odd, job=odd)
    read(report_of(read_story(folder)))
    assert pictures(read(report_of(read_story(run_folder(tmp_path / "m", metrics=METRICS))))) == 2


def test_an_unfinished_run_is_drawn_from_its_history(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "Big-One", lines(7), run={"options": {"task": "demo"}, **JOB})
    with open(folder / "history.jsonl", "a") as file:
        file.write('{"kind": "st')
    found = read(report_of(read_story(folder)))
    assert "has not come to its end" in found.text and "up to step 7" in found.text
    assert f"sft-edge train --resume {folder}" in found.text
    assert "--text-column 'a b'" in found.text and "90.00 %" in found.text
    assert pictures(found) == 3
    job = {"frozen": {"total_steps": 3}, "known": METRICS}
    detached = run_folder(tmp_path / "two", job=job, run={"session_id": "ab"})
    found = read(report_of(read_story(detached)))
    assert "holds no step yet" in found.text and f"sft-edge fetch --run {detached}" in found.text
    failed = run_folder(tmp_path / "three", lines(3), job={"known": METRICS})
    assert "It ended early" in read(report_of(read_story(failed))).text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    metrics = {
        **METRICS,
        **{"task": HOSTILE, "model": HOSTILE, "labels": [HOSTILE], "cloud_device": HOSTILE},
        **{"metric": {"name": HOSTILE, "value": 0.5}, "metrics": {HOSTILE: 0.5}},
        **{"versions": {HOSTILE: HOSTILE}, "session_id": HOSTILE, "date": HOSTILE},
    }
    history = [line | {"metric": HOSTILE} for line in lines(5)]
    job = {"arguments": [HOSTILE]}
    name = HOSTILE.replace("/", "").replace("\ud800", "")
    folder = run_folder(tmp_path / name, history, metrics=metrics, job=job)
    other = run_folder(tmp_path / "other", history, metrics=metrics, job=job)
    for page in (
        report_of(read_story(folder)),
        comparison_of([read_story(folder), read_story(other)]),
    ):
        found = read(page)
        assert "<script>alert(1)" in found.text
        assert "\u202e" not in page


def test_several_runs_stand_beside_one_another(tmp_path: Path) -> None:
    other = {**METRICS, "rank": 8, "seconds": {"total": 80.0, "edge": 40, "wire": 30, "cloud": 10}}
    folders = [
        run_folder(tmp_path / "a" / "same", lines(40), metrics=METRICS),
        run_folder(tmp_path / "b" / "same", lines(60), metrics=other),
        run_folder(tmp_path / "c", lines(5)),
    ]
    found = read(comparison_of([read_story(folder) for folder in folders]))
    assert pictures(found) == 5
    assert "Not at their end yet: c" in found.text
    assert f"{tmp_path / 'a' / 'same'}" in found.text  # one name is not enough here
    differs = found.text.partition("What differs")[2].partition("What is the same")[0]
    assert "rank" in differs and "split layer" in differs  # c knows neither


def test_twenty_runs_of_many_metrics_are_told_apart(tmp_path: Path) -> None:
    stories = []
    for number in range(20):
        history = [line | {"metric": f"metric {number % 3}"} for line in lines(50)]
        stories.append(read_story(run_folder(tmp_path / f"r{number}", history)))
    found = read(comparison_of(stories))
    assert pictures(found) == 5
    looks = {a["class"] for tag, a in found.seen if tag == "path"}
    assert len(looks) == 16


def test_a_long_run_is_a_small_page(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", lines(100_000), metrics={**METRICS, "steps": 100_000})
    page = report_of(read_story(folder))
    assert len(page) < 250_000
    assert "40 of 100,000" in read(page).text


def test_the_command_writes_where_it_says(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "runs" / "one", lines(4), metrics=METRICS)
    two = run_folder(tmp_path / "runs" / "two", lines(4), metrics=METRICS)
    before = {path.name for path in one.iterdir()}
    for arguments, place in (
        ([one], one / "report.html"),
        ([one, one, tmp_path / "runs" / "." / "one"], one / "report.html"),
        ([one, two], tmp_path / "runs" / "comparison.html"),
        ([one, two, "--to", tmp_path / "x.html"], tmp_path / "x.html"),
        ([one, "--to", tmp_path / "x.html"], tmp_path / "x.html"),
    ):
        done = edge_here("report", *arguments)
        assert (done.returncode, done.stdout) == (0, f"the report is in {place}\n"), done.stderr
        assert place.read_text().startswith("<!DOCTYPE html>")
    assert {path.name for path in one.iterdir()} == before | {"report.html"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no run nowhere"),
        (["one", "empty"], "empty is not the folder of a run: none of metrics.json, history"),
        (["broken"], "cannot read broken/metrics.json: Expecting"),
        (["list"], "cannot read list/metrics.json: it holds a list, not an object"),
        (["one", "--to", "one/metrics.json"], "a report is a page; give a name that ends in .html"),
        (["one", "--to", "none/x.html"], "cannot write none/x.html: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run_folder(Path("one"), lines(2), metrics=METRICS)
    Path("empty").mkdir()
    (run_folder(Path("broken")) / "metrics.json").write_text("{")
    (run_folder(Path("list")) / "metrics.json").write_text("[]")
    done = edge_here("report", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert json.loads(Path("one/metrics.json").read_text()) == METRICS


def test_a_report_that_fails_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path / "one", lines(2), metrics=METRICS)
    (folder / "report.html").mkdir()
    assert report_at_end(folder) is None
    assert report_at_end(tmp_path / "nowhere") is None
    monkeypatch.setattr("sft_edge.report.writing.report_of", lambda _: 1 / 0)
    assert report_at_end(folder) is None
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith("sft-edge: warning: no report.html was written: ") for line in said)
    assert "division by zero" in said[2]


def test_a_report_needs_no_heavy_import(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", lines(2), metrics=METRICS)
    code = (
        "import sys\nfrom sft_edge.cli import main\n"
        f"try:\n    main(['report', {str(folder)!r}])\nexcept SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = ('torch', 'transformers', 'grpc', 'numpy', 'rich', 'sklearn')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


def test_a_folder_that_is_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="there is no run"):
        read_story(tmp_path / "file")
