"""Who took part in a federation's rounds, and the rounds themselves, as cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from sft_cloud.federation.chronicle import Refusal, Round
from sft_common.report.charts import Lane, Segment, Titles, bar_chart
from sft_common.report.figures import bytes_said, count_said, seconds_said
from sft_common.report.markup import Markup
from sft_common.report.metrics import shown
from sft_common.report.page import card, hidden, legend, soft, table
from sft_common.report.scales import is_figure

MOST_ROWS = 500
"""Of a table: the last so many rounds, the first so many clients."""

MOST_CLIENTS = 24
"""Bars: those who were missing most."""

_DUTIES = {
    "calibrate-cut": "calibration of the cut",
    "calibrate-tail": "calibration of the tail's cut",
    "evaluate": "last evaluation",
}
"""What is no round."""

_WHOSE = (
    "Metric and loss are of the average that a round came to; clients find them when they are "
    "given it, in the next round or in the last evaluation."
)

_MOST_REASONS = 3
"""Refusals of a round that its row says in words."""


def clients_card(rounds: Sequence[Round]) -> Markup | None:
    """Return how often each client was asked in rounds that count, and what came of it."""
    asked = Counter(name for one in rounds for name in one["sampled"])
    came = Counter(name for one in rounds for name in one["arrived"])
    refused = Counter(
        no["client"] for one in rounds for no in one["refused"] if no["client"] not in one["absent"]
    )
    rarest = sorted(asked, key=lambda name: (came[name] - asked[name], name))[:MOST_CLIENTS]
    bars = [_bar(name, asked[name], came[name], refused[name]) for name in sorted(rarest)]
    text = "In how many of the rounds it was asked in each client is part of the average."
    drawn = bar_chart(Titles(key="who", title="Who arrived", text=text), bars)
    if drawn is None:
        return None
    some = f" These are the {len(bars)} of {count_said(len(asked))} who were missing most."
    return card(
        "Who arrived",
        soft(f"Of the rounds in which a client was asked.{some * (len(asked) > len(bars))}"),
        drawn,
        legend((("c2", "in the average"), ("c5", "refused"), ("idle", "did not come"))),
        _figures(sorted(asked), asked, came, refused),
    )


def _bar(name: str, asked: int, came: int, refused: int) -> Lane:
    # A client may be refused more than once in a round, and be in its average after that.
    refused = min(refused, asked - came)
    segments = [
        Segment(name=f"{what} {count}", value=count, look=look)
        for what, count, look in (
            ("in the average", came, "c2"),
            ("refused", refused, "c5"),
            ("did not come", asked - came - refused, "idle"),
        )
    ]
    return Lane(name=name, said=f"{count_said(came)} of {count_said(asked)}", segments=segments)


def _figures(
    names: Sequence[str], asked: Counter[str], came: Counter[str], refused: Counter[str]
) -> Markup:
    rows = [
        [name, *(count_said(count[name]) for count in (asked, came, refused))]
        for name in names[:MOST_ROWS]
    ]
    some = f" ({len(rows)} of {count_said(len(names))})" if len(rows) < len(names) else ""
    head = ["client", "asked", "in the average", "refused"]
    return hidden(f"The figures{some}", table(head, rows, "figures"))


def rounds_card(rounds: Sequence[Round]) -> Markup | None:
    """Return a table of the rounds, the last first."""
    if not rounds:
        return None
    last = rounds[-MOST_ROWS:]
    some = f" These are the last {len(last)} of {count_said(len(rounds))}."
    head = [
        *("round", "began, UTC", "took", "asked", "arrived", "who did not, and why"),
        *("examples", "metric", "loss", "received", "sent"),
    ]
    return card(
        "The rounds",
        soft(f"{_WHOSE}{some * (len(last) < len(rounds))}"),
        table(head, map(_row, reversed(last)), "side figures"),
        wide=True,
    )


def _row(one: Round) -> list[str]:
    name, value, loss = one["metric"] or "", one["value"], one["loss"]
    return [
        _name(one),
        time_said(one["began"]),
        seconds_said(max(0.0, one["ended"] - one["began"])),
        count_said(len(one["sampled"])),
        count_said(len(one["arrived"])),
        _refusals(one["refused"]),
        count_said(one["examples"]) if one["duty"] == "train" else "–",
        f"{name} {shown(name, value)}" if is_figure(value) else "–",
        f"{loss:.4f}" if is_figure(loss) else "–",
        bytes_said(one["bytes_received"]),
        bytes_said(one["bytes_sent"]),
    ]


def _name(one: Round) -> str:
    name = _DUTIES.get(one["duty"], count_said(one["number"]))
    return name if one["counts"] else f"{name}: came to nothing"


def _refusals(refused: Sequence[Refusal]) -> str:
    said = [f"{no['client']}: {no['reason']}" for no in refused[:_MOST_REASONS]]
    more = [f"and {len(refused) - _MOST_REASONS} more"] if len(refused) > _MOST_REASONS else []
    return "; ".join([*said, *more]) or "–"


def time_said(seconds: float) -> str:
    """Return a time that is given in seconds since 1970, as it is in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
