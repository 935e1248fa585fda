"""Draws what benchmarks/accuracy.py measured: a table and two figures in the paper's shape.

    python -m benchmarks.draw_accuracy FILE.jsonl --to DIR

writes table.md (Table I) and, with matplotlib, figure2.png/.svg (metric against rank) and
figure3.png/.svg (metric against split layer). It starts no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy_results import read_results
from benchmarks.accuracy_summary import rows_from
from benchmarks.accuracy_table import table
from benchmarks.drawing import run_drawing, write_table
from sft_common.errors import DataError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (nothing to draw) or 2 (wrong usage)."""
    run_drawing("accuracy", __doc__, draw_all, arguments)


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
    write_table(table(lines), folder)
    from benchmarks.accuracy_figures import FIGURES, draw

    for kind in FIGURES:
        written = draw(kind, rows, folder)
        for path in written:
            print(path)
        if not written:
            print(f"{kind.name}: not drawn, no {kind.fixed_label} has two points to compare")


if __name__ == "__main__":
    main()
