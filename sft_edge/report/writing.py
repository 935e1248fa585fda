"""Reports as files: of a run at its end, and as `sft-edge report` is asked for them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sft_common.errors import ConfigError, first_line
from sft_common.files import written_aside
from sft_edge.report.comparison import comparison_of
from sft_edge.report.single import report_of
from sft_edge.report.story import read_story
from sft_edge.run_files import REPORT_FILE

COMPARISON_FILE = "comparison.html"


def report_at_end(folder: Path) -> Path | None:
    """Write the report of a run that has come to its end; returns where it is.

    A report is a convenience: whatever keeps it from being written is told in one line, and costs
    the run nothing.
    """
    try:
        return _write(folder / REPORT_FILE, report_of(read_story(folder)))
    except Exception as error:
        reason = " ".join(first_line(error).split())
        print(f"sft-edge: warning: no {REPORT_FILE} was written: {reason}", file=sys.stderr)
        return None


def run_report(options: argparse.Namespace) -> None:
    """Draw a run, or compare several, with the options of `sft-edge report`.

    Raises:
        ConfigError: a folder is no run, or the page cannot be written.
    """
    runs = list({path.resolve(): path for path in options.runs}.values())
    stories = [read_story(path) for path in runs]
    if options.to is not None and options.to.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--to {options.to}: a report is a page; give a name that ends in .html")
    if len(stories) == 1:
        target, text = options.to or runs[0] / REPORT_FILE, report_of(stories[0])
    else:
        beside = runs[0].resolve().parent / COMPARISON_FILE
        target, text = options.to or beside, comparison_of(stories)
    try:
        _write(target, text)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise ConfigError(
            f"cannot write {target}: {reason}; give another place with --to FILE"
        ) from error
    print(f"the report is in {target}")


def _write(target: Path, text: str) -> Path:
    with written_aside(target) as aside:
        aside.write_text(text, encoding="utf-8")
    return target
