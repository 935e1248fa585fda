"""The page that a cloud writes of a federation: which average a metric is of, and what is shown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from sft_cloud.federation.record import RoundRecord
from sft_cloud.federation.report import report_of
from sft_cloud.federation.reporting import Page, history_of
from sft_common.federation.plan import UpdatePrivacy
from sft_common.federation.said import Finding
from tests.pages import read
from tests.unit.cloud.federation.scene import led, plan, play


def record(round: int, duty: str = "train", **changes: Any) -> RoundRecord:
    known: dict[str, Any] = {
        "round": round,
        "number": round,
        "duty": duty,
        "began": 1e9 + 60 * round,
        "ended": 1e9 + 60 * round + 45,
        "sampled": ["a", "b"],
        "arrived": ["a"],
        "refused": {"b": "nothing came in time"},
        "absent": ["b"],
        "counts": True,
        "examples": 10,
        "received": 1000,
        "sent": 2000,
    }
    return RoundRecord(**{**known, **changes})


def looked(value: float) -> dict[str, Any]:
    return {"metric": "accuracy", "value": value, "loss": 1 - value, "evaluated": 4}


RECORDS = (
    record(0, "calibrate-cut", examples=500),
    record(1),
    record(2, counts=False, arrived=[], **looked(0.1)),
    record(2, **looked(0.2)),
    record(3, counts=False, arrived=[]),
    record(3),
    record(4, "evaluate", **looked(0.4)),
)


def test_a_metric_belongs_to_the_round_whose_average_it_is_of() -> None:
    told = history_of(plan(rounds=3), RECORDS, ["a", "b", "c"], "")
    found = [(one["number"], one["counts"], one["value"]) for one in told["rounds"]]
    assert found == [
        (0, True, None),
        (1, True, 0.2),  # what was found when round 2 began; the try that counts has the last word
        (2, False, None),
        (2, True, None),  # nobody looked when round 3 began
        (3, False, None),
        (3, True, 0.4),  # the last evaluation
        (4, True, None),
    ]
    assert told["clients_known"] == 3
    private = plan(privacy=UpdatePrivacy(clip=1.0, noise=0.5))
    assert history_of(private, (), (), "")["privacy"] == "clip 1, noise 0.5, delta 1e-05"


def test_the_page_shows_tries_in_vain_and_calibrations_in_the_table_alone() -> None:
    found = read(report_of(history_of(plan(rounds=3), RECORDS, [], "")))
    for part in (
        "calibration of the cut",
        "2: came to nothing",
        "last evaluation",
        "average: 20 at 1",
        "average: 40 at 3",
        "b: nothing came in time",
        "3rounds of 3",
        "21.0 kBmoved, both ways",
    ):
        assert part in found.text, part
    # Of 3 kB a try: round 1 ends behind the calibration, round 3 behind two tries in vain.
    assert "average: 20 at 6" in found.text and "average: 40 at 18" in found.text
    assert "has not come to its end" not in found.text


def test_every_row_of_the_rounds_has_a_cell_for_every_column() -> None:
    page = report_of(history_of(plan(rounds=3), RECORDS, [], ""))
    rounds = page[page.index("The rounds</h2>") :]
    columns = rounds[: rounds.index("</thead>")].count("<th scope")
    rows = rounds[rounds.index("<tbody>") : rounds.index("</tbody>")].split("<tr")[1:]
    assert [row.count("<td") + row.count("<th scope") for row in rows] == [columns] * len(RECORDS)


def test_a_federation_that_has_stopped_says_why() -> None:
    found = read(report_of(history_of(plan(rounds=9), RECORDS[:2], [], "nobody came")))
    assert "It has stopped: nobody came" in found.text and "1 of 9 rounds" in found.text


def test_the_page_is_there_after_every_round_and_at_the_end(tmp_path: Path) -> None:
    page = tmp_path / "f" / "report.html"

    async def story() -> None:
        async with led(plan(rounds=2), folder=tmp_path / "f") as scene:
            scene.join("a", "b", "c")
            for number in (1, 2):
                if number == 2:
                    await scene.tried(2)
                    assert "1 of 2 rounds" in read(page.read_text("utf-8")).text
                found = Finding(examples=1, metric="accuracy", value=number / 10, loss=1.0)
                await scene.one_round(1.0, finding=found)
            await scene.end()
            text = read(page.read_text("utf-8")).text
            assert "last evaluation" in text and "average: 20 at 1" in text

    play(story())
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == [
        "averages",
        "history.jsonl",
        "model",
        "report.html",
    ]


def test_a_page_that_cannot_be_written_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "f" / "report.html" / "in the way").mkdir(parents=True)

    async def story() -> None:
        async with led(plan(rounds=2), folder=tmp_path / "f") as scene:
            scene.join("a", "b", "c")
            for _ in range(2):
                await scene.one_round(1.0)
            await scene.end()

    with caplog.at_level(logging.WARNING):
        play(story())
    [warned] = [one for one in caplog.records if "cannot write the report" in one.getMessage()]
    assert warned.__dict__["federation"] == "f"
    assert not list((tmp_path / "f").glob(".*.partial"))


def test_a_defect_in_the_page_is_no_more_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("rounds")

    monkeypatch.setattr("sft_cloud.federation.reporting.write_report", fail)
    page = Page(tmp_path, plan())
    for _ in range(2):
        page.draw(RECORDS, [], "")
    [warned] = caplog.records
    assert warned.exc_info and "KeyError" in caplog.text


def test_without_a_folder_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def story() -> None:
        async with led(plan(rounds=1)) as scene:
            scene.join("a", "b", "c")
            await scene.one_round(1.0)
            await scene.end()

    play(story())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_had_begun_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".report.html.1.partial").write_text("half")
    Page(tmp_path, plan()).draw(RECORDS, [], "")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
