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
