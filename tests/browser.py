"""A real browser, Debian's Chromium, that looks at pages and says what it sees.

Where none is installed a test skips, unless the environment says SFT_BROWSER=required.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]

PHONE, DESK = (360, 800), (1280, 900)
"""Width and height, CSS pixels."""


SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('svg text')].map(text =>
    parseFloat(getComputedStyle(text).fontSize)
    * text.ownerSVGElement.getBoundingClientRect().width
    / text.ownerSVGElement.viewBox.baseVal.width))"""
"""In CSS pixels, as it is drawn."""

CONTRAST = """(() => {
    const light = color => {
        const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(Number).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (one, other) => {
        const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    };
    const card = getComputedStyle(document.querySelector('.card')).backgroundColor;
    const texts = [...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill);
    const lines = [...document.querySelectorAll('path.curve:not(.faint)')]
        .map(t => getComputedStyle(t).stroke);
    return [texts, lines].map(colors => Math.min(...colors.map(one => ratio(one, card))));
})()"""
"""Of text and of curves to the ground, as the Web Content Accessibility Guidelines compute it."""


@dataclass
class Seen:
    """What a browser did with a page."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """What it wrote to its console but remarks, and what failed."""

    requests: list[str] = field(default_factory=list)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run a browser until the block ends."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        if os.environ.get("SFT_BROWSER") == "required":
            raise AssertionError("no chromium is installed: apt-get install chromium")
        pytest.skip("no chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium has no sandbox for root, as whom CI runs.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, file: Path, size: tuple[int, int], scheme: Scheme) -> Iterator[Seen]:
    """Open a file in a window of a size, in a light or dark scheme, until the block ends."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
    )
    page = context.new_page()
    seen = Seen(page)
    page.on(
        "console",
        lambda said: seen.errors.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("requestfailed", lambda request: seen.errors.append(request.url))
    page.on("request", lambda request: seen.requests.append(request.url))
    try:
        page.goto(file.absolute().as_uri(), wait_until="networkidle")
        yield seen
    finally:
        context.close()


def check(seen: Seen, file: Path, pictures: int) -> None:
    """The page is whole, asks for nothing, and everything on it lies inside the window."""
    assert seen.errors == []
    assert seen.requests == [file.absolute().as_uri()]
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.compatMode") == "CSS1Compat"
    boxes = page.evaluate(
        "[...document.querySelectorAll('svg')].map(one => one.getBoundingClientRect().toJSON())"
    )
    width = page.evaluate("innerWidth")
    assert len(boxes) == pictures
    for box in boxes:
        assert box["left"] >= 0 and box["right"] <= width
        assert box["width"] > 250 and box["height"] > 50
    inside = """[...document.querySelectorAll('svg')].every(svg => {
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text, rect, circle, path')].every(part => {
            const box = part.getBoundingClientRect();
            return box.left >= frame.left - 1 && box.right <= frame.right + 1
                && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
        });
    })"""
    assert page.evaluate(inside)
