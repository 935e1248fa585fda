"""Figures 2 and 3 of the paper from rows of a summary: metric against rank, and against layer.

It draws with matplotlib's Agg and SVG backends, without pyplot, and knows nothing of runs. The same
rows give the same SVG, byte for byte.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.accuracy_summary import Row, Setting
from benchmarks.accuracy_table import in_paper_order, metric_title, title
from benchmarks.grid import UNCUT
from sft_common.config import CUTS

PANEL_WIDTH, PANEL_HEIGHT, LEGEND_HEIGHT = 3.8, 3.0, 0.9
"""Inches."""

MOST_COLUMNS = 3
COLOURS = ("tab:blue", "tab:cyan", "tab:orange", "tab:green", "tab:olive")
MARKERS = "osDv^"
HEALED_MARKER = "*"
LINES = ("-", "--", ":", "-.")
UNCUT_COLOUR = "0.25"
PNG_DOTS_PER_INCH = 150

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sft",
    "svg.fonttype": "none",
    "axes.grid": True,
    "grid.alpha": 0.3,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What a figure varies, and what it holds fixed along a line."""

    name: str
    """Of the files, without ending."""

    varied: str
    """Field of `Variant` on the horizontal axis."""

    fixed: str
    """Field of `Variant` that is the same along a line."""

    axis: str
    """Label of the horizontal axis."""

    fixed_label: str
    """How a legend names what is fixed."""

    logarithmic: bool
    """Whether the horizontal axis is."""


class LineKey(NamedTuple):
    """What is the same along a line of a figure."""

    name: str
    """The cut, what differs from the plain one, and what is held fixed."""

    recipe: str
    """Of healing; "" without."""


FIGURES = (
    Kind(
        name="figure2",
        varied="rank",
        fixed="split_layer",
        axis="rank R (numbers kept of a token)",
        fixed_label="block",
        logarithmic=True,
    ),
    Kind(
        name="figure3",
        varied="split_layer",
        fixed="rank",
        axis="split layer (block, 1 is the lowest)",
        fixed_label="rank",
        logarithmic=False,
    ),
)


def draw(kind: Kind, rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write a figure as PNG and SVG, one panel for each setting that has something to show.

    Returns:
        The files; none if no setting has two points to compare.
    """
    settings = in_paper_order(row.setting for row in rows)
    panels = {setting: shown(kind, rows, setting) for setting in settings}
    panels = {setting: members for setting, members in panels.items() if members}
    if not panels:
        return []
    fixed = {getattr(row.variant, kind.fixed) for members in panels.values() for row in members}
    dashes = dict(zip(sorted(fixed), itertools.cycle(LINES), strict=False))
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid(len(panels))
        labels = _labels(kind, itertools.chain(*panels.values()))
        for place, (setting, members) in zip(axes, panels.items(), strict=True):
            uncut = [r for r in rows if r.setting == setting and r.variant.is_uncut()]
            _panel(place, kind, members, uncut, dashes, labels)
            place.set_title(title(setting, settings))
        legend(figure, axes)
        return save(figure, folder / kind.name)


def shown(kind: Kind, rows: Iterable[Row], setting: Setting) -> list[Row]:
    """Return the cuts of a setting whose fixed part was seen with two values of the varied one."""
    cuts = [row for row in rows if row.setting == setting and row.variant.cut != "none"]
    seen: dict[int, set[int]] = {}
    for row in cuts:
        seen.setdefault(getattr(row.variant, kind.fixed), set()).add(_x(kind, row))
    return [row for row in cuts if len(seen[getattr(row.variant, kind.fixed)]) > 1]


def _x(kind: Kind, row: Row) -> int:
    return int(getattr(row.variant, kind.varied))


def _line_of(kind: Kind, row: Row) -> LineKey:
    """Return what is the same along a line: two recipes of healing are two lines."""
    fixed = f"{kind.fixed_label} {getattr(row.variant, kind.fixed)}"
    return LineKey(f"{row.variant.name()}, {fixed}", row.variant.recipe())


def _labels(kind: Kind, rows: Iterable[Row]) -> dict[LineKey, str]:
    """Return what the legend calls every line: numbered where recipes alone tell them apart."""
    lines = list(dict.fromkeys(_line_of(kind, row) for row in rows))
    names = {line: [other for other in lines if other.name == line.name] for line in lines}
    return {
        line: line.name if len(same) == 1 else f"{line.name} #{same.index(line) + 1}"
        for line, same in names.items()
    }


def _grid(panels: int) -> tuple[Figure, list[Axes]]:
    columns = min(panels, MOST_COLUMNS)
    lines = math.ceil(panels / columns)
    size = PANEL_WIDTH * max(columns, 2), PANEL_HEIGHT * lines + LEGEND_HEIGHT
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(lines, columns, n + 1) for n in range(panels)]


def _panel(
    axes: Axes,
    kind: Kind,
    rows: list[Row],
    uncut: list[Row],
    dashes: dict[int, str],
    labels: dict[LineKey, str],
) -> None:
    for row in uncut:
        axes.axhline(row.mean, color=UNCUT_COLOUR, linewidth=1.2, label=UNCUT)
        if row.std is not None:
            low, high = row.mean - row.std, row.mean + row.std
            axes.axhspan(low, high, color=UNCUT_COLOUR, alpha=0.12, linewidth=0)
    for line in dict.fromkeys(_line_of(kind, row) for row in rows):
        members = [row for row in rows if _line_of(kind, row) == line]
        at = getattr(members[0].variant, kind.fixed)
        members.sort(key=lambda row: _x(kind, row))
        _line(axes, kind, members, dashes[at], labels[line])
    _scale(axes, kind, sorted({_x(kind, row) for row in rows}))
    axes.set_ylabel(f"{metric_title(rows[0].metric)} (%)")


def _line(axes: Axes, kind: Kind, rows: list[Row], dashes: str, label: str) -> None:
    """Draw one cut; error bars where there are several seeds."""
    variant = rows[0].variant
    colour = CUTS.index(variant.cut)
    axes.errorbar(
        [_x(kind, row) for row in rows],
        [row.mean for row in rows],
        yerr=[row.std or 0.0 for row in rows] if any(row.std for row in rows) else None,
        color=COLOURS[colour % len(COLOURS)],
        marker=HEALED_MARKER if variant.healed else MARKERS[colour % len(MARKERS)],
        fillstyle="full" if variant.edge == "trained" else "none",
        linestyle=dashes,
        markersize=9 if variant.healed else 5,
        capsize=3,
        label=label,
    )


def _scale(axes: Axes, kind: Kind, values: list[int]) -> None:
    if kind.logarithmic:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.margins(x=0.1)
    axes.set_xlabel(kind.axis)


def legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """Put one legend below all panels."""
    entries: dict[str, Artist] = {}
    for place in axes:
        handles, labels = place.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(
        [*entries.values()], [*entries], loc="outside lower center", ncols=3, fontsize="small"
    )


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG; returns both."""
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    figure.savefig(png, dpi=PNG_DOTS_PER_INCH, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]
