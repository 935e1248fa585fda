"""What is known of accuracy is what was measured, and bounds only what is easier."""

from __future__ import annotations

import pytest

from benchmarks.evidence import TARGET, evidence_from, read_all, text_of
from sft_edge.planner.evidence import Evidence, Risk, known, risk_of

HARD = Evidence("sst2", "stream", 0.5, 0.1, ("int8", "int4"), False, -1.5, 1)
RUNS = (
    HARD,
    HARD._replace(depth=0.8, gap=-0.2),
    HARD._replace(task="cola", gap=-3.0),
    HARD._replace(task="cola", depth=0.8, gap=0.4),
    HARD._replace(cut="sft", gap=0.0),
    HARD._replace(healed=True, depth=0.2, gap=0.0),
)


def risk(
    cut: str = "stream",
    depth: float = 0.5,
    share: float = 0.1,
    encoding: str = "int8",
    *,
    healed: bool = False,
    task: str | None = None,
) -> Risk:
    return risk_of(cut, depth, share, encoding, healed=healed, task=task, evidence=RUNS)


def test_the_file_holds_what_the_benchmarks_found() -> None:
    assert TARGET.read_text("utf-8") == text_of(evidence_from(read_all()))
    assert len(known()) > 50


def test_the_worst_of_all_tasks_counts_or_that_of_the_task() -> None:
    assert risk() == Risk(3.0, ("sst2", "cola"))
    assert risk(task="sst2") == Risk(1.5, ("sst2",))
    assert risk(task="demo") == risk()


def test_a_gain_is_no_loss_and_the_most_benign_harder_run_counts() -> None:
    assert risk(depth=0.8, task="cola").points == 0.0
    assert risk(depth=0.9, share=0.5, encoding="float32").points == 0.2


@pytest.mark.parametrize(
    "harder",
    [
        {"depth": 0.49},
        {"share": 0.09},
        {"encoding": "int4"},
        {"cut": "stream-end"},
        {"cut": "none"},
        {"healed": True, "depth": 0.1},
    ],
)
def test_nothing_is_known_of_what_is_harder_than_all_that_was_measured(harder: dict) -> None:
    assert risk(**harder).points is None
    assert not risk(**harder).within(99) and risk(**harder).within(100)


def test_a_task_that_was_not_measured_for_a_cut_leaves_it_unknown() -> None:
    assert risk(cut="sft").points is None
    assert risk(cut="sft", task="sst2") == Risk(0.0, ("sst2",))


def test_the_uncut_model_loses_nothing_by_definition() -> None:
    assert risk(cut="none", depth=0.01, share=0.0, encoding="float32").points == 0.0
