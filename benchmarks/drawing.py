"""What programs have alike that draw a benchmark's results: a command line, a table, and pictures.

python -m benchmarks.draw_NAME FILE.jsonl --to DIR
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from sft_common.commandline import OneLineParser, run_command
from sft_common.errors import ConfigError
from sft_common.files import written_aside


def run_drawing(
    of: str, about: str, draw: Callable[[Path, Path], None], arguments: Sequence[str] | None
) -> NoReturn:
    """Run the command line; exits with 0, 1 (nothing to draw) or 2 (wrong usage).

    Args:
        of: name of the benchmark.
        about: the program's docstring.
        draw: draws a file of results into a folder.
        arguments: of the command line; None: this process's own.
    """
    name = f"draw_{of}"
    top = OneLineParser(prog=f"python -m benchmarks.{name}", description=about.splitlines()[0])
    top.add_argument("results", type=Path, metavar="FILE.jsonl", help=f"lines of {of}.py")
    top.add_argument("--to", type=Path, required=True, metavar="DIR", help="where files go")
    options = top.parse_args(arguments)
    sys.exit(run_command(name, lambda: draw(options.results, options.to)))


def write_table(text: str, folder: Path) -> None:
    """Write the table, which comes before all pictures.

    Raises:
        ConfigError: matplotlib is missing, so there are no pictures; the table is written then.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(folder / "table.md") as aside:
        aside.write_text(text, encoding="utf-8")
    print(folder / "table.md")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("pictures need matplotlib: pip install matplotlib")
