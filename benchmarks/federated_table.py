"""What benchmarks/federated.py measured, beside FedAvg, formulas and what was published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.accuracy_results import Line, latest
from benchmarks.federated_grid import DATA_SETS, METHODS, SPLITS, key_of
from benchmarks.grid import Key

YARDSTICK = "fedavg"

HEAD = (
    "data, clients",
    "method",
    "accuracy, %",
    "to fedavg, points",
    "MB up",
    "MB down",
    "MB of a client in a round",
    "by formula",
    "published formula",
    "less than fedavg, %",
    "GFLOP of a client in a round",
    "of fedavg, %",
    "peak MB beyond libraries",
)

NOTES = """\
Accuracy of the last average on the whole validation part, computed in one process. MB up and down:
all clients' messages in all rounds, without the calibrations of coded cuts and without what is
behind the last round. By formula: the rows that travel here, as they are encoded, and 2 |W_t|;
published: 4 gamma |D| tokens width 4 bytes + 2 (|p| + |W_t|), with FedAvg 2 |W|. GFLOP: products of
matrices, convolutions and attention, forward and backward, as FlopCounterMode counts them;
embeddings' look-ups, elementwise work and optimizers are not counted. Peak: resident memory of the
largest client, less what Python, torch and transformers take before there is a model.
"""

PUBLISHED = (
    ("local compute of FedAvg's", "0.46 %", "compute"),
    ("less communication than FedAvg", "53 % (ViT-Base), 81 % (ViT-Large)", "less"),
    ("accuracy to FedAvg, points", "", "gap"),
)
"""What is compared -> what SFPrompt's paper says, and which field of `Row` it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One federation beside FedAvg of the same clients; None where that was not run."""

    data: str
    split: str
    method: str
    accuracy: float
    """Per cent."""

    gap: float | None
    """Points to FedAvg."""

    up: float
    """Megabytes of all clients in all rounds."""

    down: float

    each: float
    """Megabytes of a client in a round, both ways, in the mean."""

    formula: float
    """The same by formula."""

    published: float | None
    """The same by the published one; None where there is none."""

    less: float | None
    """Per cent of FedAvg's bytes that a client saves in a round."""

    compute: float | None
    """Per cent of FedAvg's operations that a client needs in a round."""

    gflop: float
    """Of a client in a round, in the mean."""

    memory: float
    """Megabytes beyond the libraries, of the largest client."""

    commonest: float
    """Per cent that whoever always says the commonest class gets right."""


def rows_from(lines: Iterable[Line]) -> list[Row]:
    """Return what good runs say, in the order of data sets, splits and methods."""
    good = latest(lines, key_of)[0]
    yards = {_setting(line): line for line in good if line["method"] == YARDSTICK}
    rows = [_row(line, yards.get(_setting(line))) for line in good]
    orders: tuple[list[str], ...] = ([*DATA_SETS], [*SPLITS], [*METHODS])
    return sorted(
        rows,
        key=lambda row: tuple(
            order.index(name)
            for order, name in zip(orders, (row.data, row.split, row.method), strict=True)
        ),
    )


def _setting(line: Line) -> Key:
    """Return what runs must share to be compared."""
    names = ("data", "split", "examples", "eval_examples", "rounds", "seed")
    return tuple(line[name] for name in names)


def _row(line: Line, yard: Line | None) -> Row:
    each = _moved(line)
    flops, accuracy = line["client_round"]["flops"], 100 * line["accuracy"]
    compute = 100 * flops / yard["client_round"]["flops"] if yard else None
    prompted = METHODS[line["method"]] in ("sfprompt", YARDSTICK)
    return Row(
        data=line["data"],
        split=line["split"],
        method=line["method"],
        accuracy=accuracy,
        gap=accuracy - 100 * yard["accuracy"] if yard else None,
        up=line["training_bytes"]["up"] / 1e6,
        down=line["training_bytes"]["down"] / 1e6,
        each=each / 1e6,
        formula=line["formula"]["sent"] / 1e6,
        published=line["formula"]["published"] / 1e6 if prompted else None,
        less=100 * (1 - each / _moved(yard)) if yard else None,
        compute=compute,
        gflop=flops / 1e9,
        memory=(line["memory"]["largest"] - line["memory"]["libraries"]) / 1e6,
        commonest=100 * line["commonest_class"],
    )


def _moved(line: Line) -> float:
    each = line["client_round"]
    return float(each["up"] + each["down"])


def summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the rows, and the runs that failed, as plain JSON."""
    return {
        "rows": [asdict(row) for row in rows_from(lines)],
        "failed": latest(lines, key_of)[1],
    }


def table(lines: Sequence[Line]) -> str:
    """Return all of it as Markdown."""
    rows = rows_from(lines)
    grid = [HEAD, ("---",) * len(HEAD), *(_cells(row) for row in rows)]
    parts = [_lines(grid), NOTES, *_settings(lines), "", _lines(_beside(rows)), *_failures(lines)]
    return "\n".join(parts) + "\n"


def title(data: str, split: str) -> str:
    """Return how a panel or a row is called."""
    return f"{DATA_SETS[data].title}, {split}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        title(row.data, row.split),
        row.method,
        f"{row.accuracy:.1f}",
        "" if row.gap is None or row.method == YARDSTICK else f"{row.gap:+.1f}",
        _short(row.up),
        _short(row.down),
        _short(row.each),
        _short(row.formula),
        _short(row.published),
        "" if row.less is None or row.method == YARDSTICK else f"{row.less:.1f}",
        _short(row.gflop),
        "" if row.compute is None or row.method == YARDSTICK else f"{row.compute:.0f}",
        f"{row.memory:.0f}",
    )


def _beside(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return a line for each published figure, with what SFPrompt reached here."""
    ours = [row for row in rows if METHODS[row.method] == "sfprompt" and row.gap is not None]
    titles = [f"{title(row.data, row.split)}: {row.method}" for row in ours]
    head = ("SFPrompt against FedAvg", "published", *titles)
    cells = [
        (what, published, *(_signed(field, getattr(row, field)) for row in ours))
        for what, published, field in PUBLISHED
    ]
    return [head, ("---",) * len(head), *cells]


def _signed(field: str, value: float) -> str:
    return f"{value:+.1f}" if field == "gap" else f"{value:.1f} %"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _lines(grid: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in grid)


def _settings(lines: Sequence[Line]) -> list[str]:
    """Return a line for each data set and method: how it was trained."""
    found: dict[str, None] = {}
    for line in latest(lines, key_of)[0]:
        about = DATA_SETS[line["data"]]
        few = line["eval_examples"]
        found[
            f"- {about.title}, {METHODS[line['method']]}: {line['examples']:,} training examples, "
            f"{line['rounds']} rounds, {line['epochs']} local "
            f"{'epoch' if line['epochs'] == 1 else 'epochs'}, rate {line['learning_rate']:g}, "
            f"{_tail(line)}"
            f"seed {line['seed']}, evaluated on {'all' if few is None else f'the first {few:,}'} "
            f"of the validation part; the commonest class is {100 * line['commonest_class']:.1f} % "
            "of it"
        ] = None
    return list(found)


def _tail(line: Line) -> str:
    return "" if line["tail"] is None else f"the tail begins behind block {line['tail']}, "


def _failures(lines: Sequence[Line]) -> list[str]:
    failed = latest(lines, key_of)[1]
    return [f"Runs that failed and are missing above: {len(failed)}."] if failed else []
