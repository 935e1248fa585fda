"""Pages of federations: before the first round, after one, long ones, hostile ones."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from sft_cloud.federation.chronicle import History, Round
from sft_cloud.federation.report import report_of, write_report
from tests.pages import HOSTILE, pictures, read

BEGAN = 1_767_323_045.0
"""2026-01-02 03:04:05 UTC."""


def round_of(number: int, clients: int = 4) -> Round:
    """Return a round in which the last client is refused and the one before does not come."""
    names = [f"client-{n:02}" for n in range(1, clients + 1)]
    return {
        "number": number,
        "duty": "train",
        "counts": True,
        "began": BEGAN + 60 * (number - 1),
        "ended": BEGAN + 60 * (number - 1) + 45,
        "sampled": names,
        "arrived": names[:-2],
        "refused": [
            {"client": names[-1], "reason": "not a number in tail"},
            {"client": names[-2], "reason": "nothing came in time"},
        ],
        "absent": [names[-2]],
        "examples": 100 * (clients - 2),
        "metric": "accuracy",
        "value": 1 - 0.5 / number,
        "loss": 1 / number,
        "bytes_received": 2_000_000,
        "bytes_sent": 1_500_000,
    }


def history(rounds: int, planned: int = 500, clients: int = 4) -> History:
    return {
        "name": "hospitals",
        "method": "sfprompt",
        "model": "m",
        "cut": "stream at block 2, none-end at block 6",
        "privacy": "",
        "clients_known": 10,
        "rounds_planned": planned,
        "failure": "",
        "rounds": [round_of(n, clients) for n in range(1, rounds + 1)],
    }


def test_a_federation_without_a_round_says_so() -> None:
    found = read(report_of(history(0)))
    assert pictures(found) == 0
    assert "has not come to its end; this is its history, no round yet" in found.text
    assert "sfprompt · m · stream at block 2" in found.text
    assert "The rounds" not in found.text and "10" in found.text


def test_one_round_is_a_whole_page() -> None:
    found = read(report_of(history(1)))
    assert pictures(found) == 5
    for part in (
        "1 of 500 rounds",
        "50.00 %accuracy in round 1",
        "3.50 MBmoved, both ways",
        "45.0 sfor a mean round",
        "2026-01-02 03:04:05 UTC",
        "client-04: not a number in tail",
        "privacy of updatesnone",
        "kB moved so far, both ways",
    ):
        assert part in found.text, part


def test_a_federation_at_its_end_has_no_note() -> None:
    private = {**history(3, planned=3), "privacy": "clip 1, noise 4, epsilon 22 at delta 1e-05"}
    found = read(report_of(private))  # type: ignore[arg-type]
    assert "has not come to its end" not in found.text
    assert "private: clip 1, noise 4, epsilon 22 at delta 1e-05" in found.text


def test_curves_are_drawn_over_rounds_and_over_all_bytes_so_far() -> None:
    found = read(report_of(history(3)))
    # 3.5 MB a round.
    assert "average: 83.333 at 3" in found.text and "average: 83.333 at 10.5" in found.text
    assert "average: 0.5 at 2" in found.text and "average: 0.5 at 7" in found.text
    assert "MB moved so far" in found.text
    curves = [a["d"] for tag, a in found.seen if tag == "path"]
    assert len(curves) == 4


def test_what_came_of_the_clients_is_in_the_bars() -> None:
    found = read(report_of(history(3)))
    for tip in ("in the average 3", "refused 3", "did not come 3"):
        assert tip in found.text, tip
    assert "3 of 3" in found.text and "0 of 3" in found.text
    odd = history(1)
    odd["rounds"][0]["refused"] *= 3
    odd["rounds"][0]["arrived"] = odd["rounds"][0]["sampled"]
    found = read(report_of(odd))
    assert "1 of 1" in found.text and "0 of 1" not in found.text


def test_of_many_clients_those_who_were_missing_most_are_shown() -> None:
    found = read(report_of(history(2, clients=700)))
    assert "the 24 of 700 who were missing most" in found.text
    assert "The figures (500 of 700)" in found.text
    assert sum(a.get("class") == "label" for _, a in found.seen) == 24


def test_five_hundred_rounds_are_a_small_page() -> None:
    page = report_of(history(500))
    found = read(page)
    assert pictures(found) == 5
    assert len(page) < 450_000
    assert "40 of 500" in found.text and "has not come" not in found.text
    longer = read(report_of(history(800, planned=800)))
    assert "These are the last 500 of 800." in longer.text


def test_a_round_in_which_nobody_measured_is_left_out_of_the_curves() -> None:
    told = history(4)
    told["rounds"][1] |= {"metric": None, "value": None, "loss": None}
    told["rounds"][2] |= {"value": math.nan, "loss": math.inf}
    found = read(report_of(told))
    assert "average: 87.5 at 4" in found.text
    assert sum(tag == "circle" for tag, _ in found.seen) == 4 * 2
    nobody = history(1)
    nobody["rounds"][0] |= {"metric": None, "value": None, "loss": None}
    assert pictures(read(report_of(nobody))) == 1


def test_rounds_in_which_nothing_happened_are_drawn() -> None:
    empty = history(1)
    empty["rounds"][0] |= {
        **{"sampled": [], "arrived": [], "refused": [], "examples": 0},
        **{"bytes_received": 0, "bytes_sent": 0, "ended": BEGAN},
    }
    assert pictures(read(report_of(empty))) == 4


def test_a_perplexity_is_no_share() -> None:
    told = history(2)
    for one in told["rounds"]:
        one |= {"metric": "perplexity", "value": 300.0}
    found = read(report_of(told))
    assert "300.000perplexity in round 2" in found.text and "perplexity, %" not in found.text


def test_hostile_names_stay_text() -> None:
    told = history(2)
    told |= {key: HOSTILE for key in ("name", "method", "model", "cut", "privacy")}  # type: ignore[typeddict-item]
    for one in told["rounds"]:
        one |= {
            **{"sampled": [HOSTILE], "arrived": [], "metric": HOSTILE},
            "refused": [{"client": HOSTILE, "reason": HOSTILE}] * 5,
        }
    page = report_of(told)
    found = read(page)
    assert "<script>alert(1)" in found.text and "\u202e" not in page
    assert "and 2 more" in found.text


def test_it_is_plain_json(tmp_path: Path) -> None:
    told = history(2)
    assert report_of(json.loads(json.dumps(told))) == report_of(told)


def test_the_page_is_written_whole_in_place_of_a_former_one(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    for rounds in (1, 2):
        write_report(history(rounds), target)
        assert target.read_text("utf-8") == report_of(history(rounds))
    broken = history(1)
    del broken["rounds"][0]["examples"]  # type: ignore[misc]
    with pytest.raises(KeyError):
        write_report(broken, target)
    assert target.read_text("utf-8") == report_of(history(2))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_needs_no_heavy_import() -> None:
    code = (
        "import sys\nimport sft_cloud.federation.report\n"
        "heavy = ('torch', 'transformers', 'grpc', 'numpy', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
