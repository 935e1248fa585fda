"""Federations as a table for a terminal; `sft-cloud status` shows it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sft_cloud.amounts import amount, span
from sft_cloud.logs import visible
from sft_common.pb.sft.v1 import operations_pb2 as pb
from sft_common.report.metrics import shown

COLUMNS = (
    "federation\nmethod",
    "state",
    "rounds",
    "handed in\nsince",
    "clients",
    "average\nloss",
    "received\nsent",
)
"""Two lines each, so that a row fits into 100 columns; a long name wraps."""


def federations_table(found: Sequence[pb.FederationSummary]) -> Table:
    """Return a table of federations, two lines for each."""
    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        first = name == COLUMNS[0]
        table.add_column(name, no_wrap=not first, min_width=10 if first else None)
    for summary in found:
        table.add_row(*(_cell(*lines) for lines in _row(summary)))
    return table


def failures(found: Sequence[pb.FederationSummary]) -> list[Text]:
    """Return a line for each federation that has failed."""
    return [
        Text(visible(f"{summary.name} has failed: {summary.failure}"))
        for summary in found
        if summary.failure
    ]


def federation_state(summary: pb.FederationSummary) -> str:
    """Return what a federation does, in a word."""
    name: str = pb.FederationState.Name(summary.state)
    return name.removeprefix("FEDERATION_STATE_").lower()


def _cell(first: str, second: str = "") -> Text:
    return Text.assemble(visible(first), "\n", (visible(second), "dim"))


def _row(summary: pb.FederationSummary) -> list[tuple[str, ...]]:
    return [
        (summary.name, summary.method),
        (federation_state(summary),),
        (f"{summary.rounds_done:,} of {summary.rounds_planned:,}", _try(summary)),
        _handed_in(summary),
        _clients(summary),
        _average(summary),
        (amount(summary.received_bytes), amount(summary.sent_bytes)),
    ]


def _try(summary: pb.FederationSummary) -> str:
    number = summary.under_way.try_number
    return f"try {number}" if number > 1 else ""


def _handed_in(summary: pb.FederationSummary) -> tuple[str, ...]:
    if not summary.HasField("under_way"):
        return ("-",)
    at = summary.under_way
    lost = f", {at.lost:,} lost" if at.lost else ""
    return f"{at.arrived:,} of {at.drawn:,}{lost}", span(at.seconds)


def _clients(summary: pb.FederationSummary) -> tuple[str, ...]:
    waits = summary.state == pb.FEDERATION_STATE_WAITING
    more = f"needs {summary.clients_needed:,}" if waits else f"{summary.clients_known:,} known"
    return f"{summary.clients_present:,} here", more


def _average(summary: pb.FederationSummary) -> tuple[str, ...]:
    if not summary.HasField("measured"):
        return ("-",)
    found = summary.measured
    value = f"{found.metric} {shown(found.metric, found.value)}"
    return value, f"{found.loss:.4g}, of round {found.round:,}"
