"""The table of an accuracy benchmark as Markdown, in the shape of Table I of the paper."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from benchmarks.accuracy_results import Line, latest
from benchmarks.accuracy_summary import Row, Setting, Variant, rows_from, variant_order

TITLES = {
    "sst2": "SST-2",
    "qnli": "QNLI",
    "mnli": "MNLI",
    "qqp": "QQP",
    "cola": "CoLA",
    "rte": "RTE",
    "stsb": "STS-B",
    "mrpc": "MRPC",
    "squad": "SQuAD",
}
"""Task -> title, in the order of the paper's Table I."""

METRIC_TITLES = {
    "accuracy": "accuracy",
    "matthews": "Matthews",
    "spearman": "Spearman",
    "f1": "F1",
}
"""Metric -> title."""

NOTES = """\
Cells: mean ± sample standard deviation over seeds in per cent (number of seeds), then the gap to
uncut in points, mean ± standard error over the seeds that both have. Bold: the best mean of the
task among the cuts that send equally many numbers in one encoding, where there are several. Numbers
per token are those of each way. "uncut" is plain split learning, which computes what the unsplit
model computes.
"""


def table(lines: Sequence[Line]) -> str:
    """Return the table with its notes: tasks as columns, uncut and every cut as rows."""
    rows = rows_from(lines)
    settings = in_paper_order(row.setting for row in rows)
    variants = sorted({row.variant for row in rows}, key=variant_order)
    cells = {(row.variant, row.setting): row for row in rows}
    best = _best(rows)
    metrics = {row.setting: metric_title(row.metric) for row in rows}
    titles = [f"{title(s, settings)} {metrics[s]}" for s in settings]
    grid = [["cut", "layer", "rank", "numbers per token", *titles], ["---"] * (4 + len(settings))]
    for variant in variants:
        found = [cells.get((variant, setting)) for setting in settings]
        grid.append([*_head(variant, found), *(_cell(row, best) for row in found)])
    table_lines = [f"| {' | '.join(row)} |" for row in grid]
    facts = [*_settings(settings), *_measured(lines), *_failures(lines)]
    return "\n".join([*table_lines, "", NOTES, *facts]) + "\n"


def in_paper_order(settings: Iterable[Setting]) -> list[Setting]:
    """Return the settings without repetition, in the order of the paper's Table I."""
    tasks = [*TITLES]
    return sorted(
        dict.fromkeys(settings),
        key=lambda s: tasks.index(s.task) if s.task in tasks else len(tasks),
    )


def title(setting: Setting, settings: Sequence[Setting]) -> str:
    """Return the task's title, numbered where several settings share the task."""
    name = TITLES.get(setting.task, setting.task)
    same = [other for other in settings if other.task == setting.task]
    return name if len(same) == 1 else f"{name} #{same.index(setting) + 1}"


def metric_title(metric: str) -> str:
    """Return how a metric is called in titles."""
    return METRIC_TITLES.get(metric, metric)


def _head(variant: Variant, found: Sequence[Row | None]) -> list[str]:
    widths = sorted({row.wire_numbers_per_token for row in found if row})
    rank = "" if variant.rank is None else str(variant.rank)
    layer = "" if variant.is_uncut() else str(variant.split_layer)
    healed = f" ({variant.healed})" if variant.healed else ""
    return [f"{variant.name()}{healed}", layer, rank, ", ".join(map(str, widths))]


def _cell(row: Row | None, best: Collection[Row]) -> str:
    if row is None:
        return ""
    figure = f"{row.mean:.2f}" if row.std is None else f"{row.mean:.2f} ± {row.std:.2f}"
    marked = f"**{figure}**" if row in best else figure
    if row.gap is None or row.variant.is_uncut():
        return f"{marked} ({row.seeds})"
    error = "" if row.gap_error is None else f" ± {row.gap_error:.2f}"
    return f"{marked} ({row.seeds}), {row.gap:+.2f}{error}"


def _best(rows: Iterable[Row]) -> list[Row]:
    """Return the best rows of each setting, wire width and encoding that several cuts share."""
    groups: dict[tuple[Setting, int, str], list[Row]] = {}
    for row in rows:
        if row.variant.cut != "none":
            on_wire = row.wire_numbers_per_token, row.variant.encoding
            groups.setdefault((row.setting, *on_wire), []).append(row)
    return [
        row
        for members in groups.values()
        if len(members) > 1
        for row in members
        if row.mean == max(other.mean for other in members)
    ]


def _settings(settings: Sequence[Setting]) -> list[str]:
    """Return a line for every column: what it was trained on."""
    return [
        f"- {title(s, settings)}: {s.model}, {_first(s.train_examples)} training examples, "
        f"{s.epochs} {'epoch' if s.epochs == 1 else 'epochs'}, "
        f"{_first(s.eval_examples)} evaluation examples{f', {s.extra}' if s.extra else ''}"
        for s in settings
    ]


def _measured(lines: Iterable[Line]) -> list[str]:
    """Return a line for every machine and version: when and with what the runs were made."""
    days: dict[str, set[str]] = {}
    for line in latest(lines)[0]:
        machine, versions = line["machine"], line["versions"]
        where = (
            f"on {machine['cores']} cores ({machine['cpu']}), torch threads: "
            f"{machine['torch_threads']}, sft {versions['sft']}, torch {versions['torch']}"
        )
        days.setdefault(where, set()).add(line["date"][:10])
    return [f"- Measured {', '.join(sorted(found))} {where}" for where, found in days.items()]


def _first(examples: int | None) -> str:
    return "all" if examples is None else f"the first {examples:,}"


def _failures(lines: Iterable[Line]) -> list[str]:
    failed = latest(lines)[1]
    return ["", f"Runs that failed and are missing above: {len(failed)}."] if failed else []
