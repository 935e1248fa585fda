"""Draws what benchmarks/federated.py measured: a table, and accuracy against bytes.

    python -m benchmarks.draw_federated FILE.jsonl --to DIR

writes table.md and, with matplotlib, accuracy-against-bytes.png/.svg: a panel for each data set and
split, a line for each method, a point for each average that was evaluated, above the bytes that all
clients had moved by then. It starts no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.accuracy_results import Line, latest, read_results
from benchmarks.drawing import run_drawing, write_table
from benchmarks.federated_grid import DATA_SETS, METHODS, SPLITS, key_of
from benchmarks.federated_table import table, title
from sft_common.errors import DataError

PICTURE = "accuracy-against-bytes"

COLOURS = dict(
    zip(METHODS, ("tab:pink", "tab:orange", "tab:red", "tab:blue", "tab:cyan", "0.25"), strict=True)
)
MARKERS = dict(zip(METHODS, "vo*sD^", strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (nothing to draw) or 2 (wrong usage)."""
    run_drawing("federated", __doc__, draw_all, arguments)


def draw_all(results: Path, folder: Path) -> None:
    """Write the table and the picture.

    Raises:
        DataError: the file is not one of results, or holds no run that ended well.
        ConfigError: matplotlib is missing; the table is written then.
        OSError: a file cannot be read or written.
    """
    lines = read_results(results, key_of)
    good = latest(lines, key_of)[0]
    if not good:
        raise DataError(f"{results} holds no run that came to a good end")
    write_table(table(lines), folder)
    for path in draw(good, folder):
        print(path)


def points(line: Line) -> list[tuple[float, float]]:
    """Return megabytes that all clients had moved, and accuracy in per cent, for some averages.

    What calibrated the cuts comes before the first round.
    """
    before = sum(line["calibration_bytes"].values())
    moved = list(accumulate(line["round_bytes"], initial=before))
    return [(moved[at["round"]] / 1e6, 100 * at["accuracy"]) for at in line["accuracies"]]


def panels_of(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Return title -> lines of each data set and split, methods in their order."""
    found: dict[str, list[Line]] = {}
    for data in DATA_SETS:
        for split in SPLITS:
            here = [line for line in lines if (line["data"], line["split"]) == (data, split)]
            if here:
                order = [*METHODS]
                found[title(data, split)] = sorted(here, key=lambda x: order.index(x["method"]))
    return found


def draw(lines: Sequence[Line], folder: Path) -> list[Path]:
    """Write the picture as PNG and SVG; returns both."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from benchmarks import accuracy_figures as look

    panels = panels_of(lines)
    columns = min(2, len(panels))
    height = -(-len(panels) // columns)
    with matplotlib.rc_context(look.STYLE):
        size = look.PANEL_WIDTH * 2, look.PANEL_HEIGHT * height + look.LEGEND_HEIGHT
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = [figure.add_subplot(height, columns, n + 1) for n in range(len(panels))]
        for place, (name, members) in zip(axes, panels.items(), strict=True):
            _panel(place, members)
            place.set_title(name)
        look.legend(figure, axes)
        return look.save(figure, folder / PICTURE)


def _panel(axes: Any, lines: Sequence[Line]) -> None:
    from matplotlib.ticker import NullFormatter

    for line in lines:
        name = line["method"]
        across, up = zip(*points(line), strict=True)
        axes.plot(across, up, label=name, color=COLOURS[name], marker=MARKERS[name], markersize=5)
    commonest = 100 * lines[0]["commonest_class"]
    axes.axhline(commonest, color="0.6", linestyle=":", label="commonest class")
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("MB, all clients, both ways")
    axes.set_ylabel("accuracy (%)")


if __name__ == "__main__":
    main()
