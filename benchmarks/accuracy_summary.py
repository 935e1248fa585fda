"""From lines of results to what they say: mean, spread, gap to the uncut model, traffic.

It knows nothing of files and of drawing. All accuracies are in per cent here: 100 times the metric.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.accuracy_results import Line, latest
from benchmarks.grid import UNCUT
from sft_common.config import CUTS


class Setting(NamedTuple):
    """What is learned from what: only results of one setting may be compared."""

    task: str
    model: str
    train_examples: int | None
    eval_examples: int | None
    epochs: int
    extra: str


class Variant(NamedTuple):
    """How the model is cut and trained."""

    cut: str
    split_layer: int
    rank: int | None
    edge: str
    healed: str
    encoding: str

    def is_uncut(self) -> bool:
        """Return whether this is the model as it was, trained as usual."""
        return self.cut == "none" and self[3:] == ("trained", "", "float32")

    def recipe(self) -> str:
        """Return how it was healed, without what came of it: the same for several ranks."""
        return self.healed.partition(";")[0]

    def name(self) -> str:
        """Return the cut and how it differs from the plain one, without layer and rank."""
        notes = (
            UNCUT if self.cut == "none" else self.cut,
            "" if self.edge == "trained" else f"{self.edge} edge",
            "healed" if self.healed else "",
            "" if self.encoding == "float32" else self.encoding,
        )
        return ", ".join(note for note in notes if note)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One variant in one setting, over all its seeds."""

    setting: Setting
    variant: Variant

    metric: str
    """Name of the task's first metric."""

    mean: float
    """Over seeds, per cent."""

    std: float | None
    """Sample standard deviation over seeds, per cent; None with one seed."""

    seeds: int
    """How many."""

    gap: float | None
    """Variant minus uncut in points, mean over the seeds that both have; None if there is none."""

    gap_error: float | None
    """Standard error of that mean in points; None with fewer than two such seeds."""

    gap_seeds: int
    """How many seeds both have."""

    wire_numbers_per_token: int
    """Numbers sent for each token, each way."""

    bytes_ratio: float
    """Bytes moved over those of plain split learning, all seeds together."""


def rows_from(lines: Iterable[Line]) -> list[Row]:
    """Return a row for every variant in every setting that has at least one good run.

    Settings come in the order of their first line; within one, uncut comes first, then cuts in the
    order of `CUTS`, from low to high layers and ranks.
    """
    groups: dict[tuple[Setting, Variant], list[Line]] = {}
    for line in latest(lines)[0]:
        groups.setdefault((setting_of(line), variant_of(line)), []).append(line)
    uncut = {
        setting: _by_seed(members)
        for (setting, variant), members in groups.items()
        if variant.is_uncut()
    }
    rows = [_row(*group, members, uncut.get(group[0], {})) for group, members in groups.items()]
    first = list(dict.fromkeys(row.setting for row in rows))
    return sorted(rows, key=lambda row: (first.index(row.setting), variant_order(row.variant)))


def summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Return all rows as JSON knows them, and the runs that failed."""
    good, failed = latest(lines)
    return {
        "runs": len(good),
        "failed": failed,
        "rows": [_row_to_json(row) for row in rows_from(lines)],
    }


def setting_of(line: Line) -> Setting:
    """Return the setting of a line of results."""
    return Setting(*(line[name] for name in Setting._fields))


def variant_of(line: Line) -> Variant:
    """Return the variant of a line of results."""
    return Variant(*(line[name] for name in Variant._fields))


def variant_order(variant: Variant) -> tuple[Any, ...]:
    """Return what sorts variants: uncut, then cuts in the order of `CUTS`, layers, ranks."""
    cut = -1 if variant.cut == "none" else CUTS.index(variant.cut)
    return cut, variant.split_layer, variant.rank or 0, *variant[3:]


def _row(setting: Setting, variant: Variant, members: list[Line], uncut: dict[int, float]) -> Row:
    values = _by_seed(members)
    common = [seed for seed in values if seed in uncut]
    gaps = [values[seed] - uncut[seed] for seed in common]
    return Row(
        setting=setting,
        variant=variant,
        metric=members[0]["metric"]["name"],
        mean=statistics.fmean(values.values()),
        std=statistics.stdev(values.values()) if len(values) > 1 else None,
        seeds=len(values),
        gap=statistics.fmean(gaps) if gaps else None,
        gap_error=statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else None,
        gap_seeds=len(gaps),
        wire_numbers_per_token=members[0]["wire_numbers_per_token"],
        bytes_ratio=_bytes_ratio(members),
    )


def _by_seed(members: Iterable[Line]) -> dict[int, float]:
    return {line["seed"]: 100 * line["metric"]["value"] for line in members}


def _bytes_ratio(members: Iterable[Line]) -> float:
    moved = plain = 0
    for line in members:
        moved += line["bytes"]["up"] + line["bytes"]["down"]
        plain += line["bytes"]["split_learning_up"] + line["bytes"]["split_learning_down"]
    return moved / plain


def _row_to_json(row: Row) -> dict[str, Any]:
    measured = dataclasses.asdict(row)
    del measured["setting"], measured["variant"]
    names = {
        "mean": "mean_percent",
        "std": "std_percent",
        "gap": "gap_to_uncut_points",
        "gap_error": "gap_standard_error_points",
    }
    named = {names.get(name, name): value for name, value in measured.items()}
    rounded = {n: round(v, 6) if isinstance(v, float) else v for n, v in named.items()}
    return {**row.setting._asdict(), **row.variant._asdict(), **rounded}
