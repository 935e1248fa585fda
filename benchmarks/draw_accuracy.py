"""Draws what benchmarks/accuracy.py measured: a table and two figures in the paper's shape.

    python -m benchmarks.draw_accuracy FILE.jsonl --to DIR

writes table.md (Table I) and, with matplotlib, figure2.png/.svg (metric against rank) and
figure3.png/.svg (metric against split layer). It starts no run.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy_results import read_results
from benchmarks.accuracy_summary import rows_from
from benchmarks.accuracy_table import table
from sft_common.commandline import OneLineParser, run_command
from sft_common.errors import ConfigError, DataError
from sft_common.files import written_aside


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (nothing to draw) or 2 (wrong usage)."""
    options = parser().parse_args(arguments)
    sys.exit(run_command("draw_accuracy", lambda: draw_all(options.results, options.to)))


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = OneLineParser(
        prog="python -m benchmarks.draw_accuracy", description=__doc__.splitlines()[0]
    )
    top.add_argument("results", type=Path, metavar="FILE.jsonl", help="lines of accuracy.py")
    top.add_argument("--to", type=Path, required=True, metavar="DIR", help="where files go")
    return top


def draw_all(results: Path, folder: Path) -> None:
    """Write the table and whatever figures the results have something for.

    Raises:
        DataError: the file is not one of results, or holds no run that ended well.
        ConfigError: matplotlib is missing; the table is written then.
        OSError: a file cannot be read or written.
    """
    lines = read_results(results)
    rows = rows_from(lines)
    if not rows:
        raise DataError(f"{results} holds no run that came to a good end")
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(folder / "table.md") as aside:
        aside.write_text(table(lines), encoding="utf-8")
    print(folder / "table.md")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("figures need matplotlib: pip install matplotlib")
    from benchmarks.accuracy_figures import FIGURES, draw

    for kind in FIGURES:
        written = draw(kind, rows, folder)
        for path in written:
            print(path)
        if not written:
            print(f"{kind.name}: not drawn, no {kind.fixed_label} has two points to compare")


if __name__ == "__main__":
    main()
