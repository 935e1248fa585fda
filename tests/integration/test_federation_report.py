"""A real browser shows the page of a federation, on a phone too, and the page asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sft_cloud.federation.report import write_report
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
from tests.pages import HOSTILE
from tests.unit.cloud.test_federation_report import history, round_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (DESK, "dark")])
@pytest.mark.parametrize(("rounds", "shown"), [(0, 0), (1, 5), (500, 5)])
def test_a_browser_shows_every_picture_and_asks_for_nothing(
    browser: Browser,
    tmp_path: Path,
    size: tuple[int, int],
    scheme: Scheme,
    rounds: int,
    shown: int,
) -> None:
    told = history(rounds, clients=30)
    told["name"] = HOSTILE[:60]
    for one in told["rounds"]:
        one["sampled"][-1] = HOSTILE.replace("\ud800", "")
    others = [("calibrate-tail", True), ("train", False), ("evaluate", True)] if rounds == 1 else []
    for duty, counts in others:
        nothing = {"metric": None, "value": None, "loss": None}
        told["rounds"].append({**round_of(1), **nothing, "duty": duty, "counts": counts})  # type: ignore[typeddict-item]
    told["failure"] = HOSTILE
    write_report(told, tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html", size, scheme) as seen:
        check(seen, tmp_path / "report.html", shown)
        for closed in seen.page.locator("details").all():
            closed.locator("summary").click()
        check(seen, tmp_path / "report.html", shown)
        if shown:
            assert seen.page.evaluate(SMALLEST_TEXT) >= 11
            text, _ = seen.page.evaluate(CONTRAST)
            assert text >= 4.5
            rows = seen.page.locator("section.wide").locator("tbody tr")
            assert rows.count() == rounds + len(others)
