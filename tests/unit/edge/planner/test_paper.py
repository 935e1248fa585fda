"""The table of docs/plan.md is what the written scene gives (SFT, section IV-C)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_edge.pacing import CANDIDATES
from sft_edge.planner.forecasting import forecast, plain_seconds, yardsticks
from sft_edge.planner.setting import Asked, Setting
from sft_edge.planner.written import read_scene

DOCS = Path(__file__).parents[4] / "docs"


def test_the_papers_case_stands_in_the_docs_as_it_is_computed() -> None:
    place = read_scene(DOCS / "plan" / "paper.toml")
    lines = []
    for layer in place.layers:
        paper = [Setting("sft", layer, 8, "float32", parts) for parts in CANDIDATES]
        found = [forecast(place, setting, Asked()) for setting in paper]
        best = min(found, key=lambda each: each.seconds)
        local = yardsticks(place).local_seconds
        figures = [plain_seconds(place, layer), found[0].in_turn_seconds, best.seconds]
        cells = [f"{1e3 * seconds:,.0f}" for seconds in figures]
        lines.append(f"| {layer} | {' | '.join(cells)} | {local / best.seconds:.2f} |")
    text = (DOCS / "plan.md").read_text("utf-8")
    assert "\n".join(lines) in text, "\n".join(lines)
    assert f"{1e3 * local:,.0f} ms" in text


def test_the_volumes_are_those_of_a_batch_and_not_those_printed() -> None:
    """docs/plan.md: 104 ms a step at 1 Gbit/s for both ways, where the paper prints 2300."""
    place = read_scene(DOCS / "plan" / "paper.toml")
    way = 2 * yardsticks(place).plain_bytes / place.link.up_bytes_per_second
    assert way == pytest.approx(0.104, rel=0.005)
