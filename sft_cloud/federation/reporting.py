"""The page of a federation, beside its averages: from records to a file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from sft_cloud.federation.chronicle import History, Round
from sft_cloud.federation.record import Measured, RoundRecord, measured
from sft_cloud.federation.report import write_report
from sft_cloud.logs import About
from sft_common.errors import first_line
from sft_common.federation.plan import FederationPlan, UpdatePrivacy
from sft_common.files import remove_leftovers
from sft_common.report.metrics import shown

log = logging.getLogger(__name__)

PAGE = "report.html"


class Page:
    """The page of one federation.

    Args:
        folder: of the federation; made with the first page.
        plan: what it is about.
    """

    def __init__(self, folder: Path, plan: FederationPlan) -> None:
        self.path, self._plan = folder / PAGE, plan
        self._warned = False

    def draw(self, records: Sequence[RoundRecord], known: Iterable[str], failure: str) -> None:
        """Draw what has happened so far; if that cannot be done it is a warning, once.

        Args:
            records: of all tries.
            known: names of clients that were there.
            failure: what the federation stopped with; empty: it did not.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path.parent)
            write_report(history_of(self._plan, records, known, failure), self.path)
        except Exception as error:  # whatever is wrong with a page, the federation goes on
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        defect = not isinstance(error, OSError)
        log.warning(
            "cannot write the report %s: %s",
            self.path,
            first_line(error),
            exc_info=error if defect else None,
            extra=About(federation=self._plan.name).extra(),
        )


def history_of(
    plan: FederationPlan, records: Sequence[RoundRecord], known: Iterable[str], failure: str
) -> History:
    """Return what a page tells; as `Page.draw`."""
    found = {value.round: value for value in map(measured, records) if value is not None}
    clients = set(known).union(*(record.sampled for record in records))
    return History(
        name=plan.name,
        method=plan.method,
        model=plan.model.name,
        cut=plan.cut_words(),
        privacy=_privacy_words(plan.privacy),
        clients_known=len(clients),
        rounds_planned=plan.rounds,
        failure=failure,
        rounds=[_round(record, found.get(record.round)) for record in records],
    )


def _round(record: RoundRecord, value: Measured | None) -> Round:
    averaged = record.counts and record.duty == "train"
    of_it = value if averaged else None
    return Round(
        number=record.round,
        duty=record.duty,
        counts=record.counts,
        began=record.began,
        ended=record.ended,
        sampled=record.sampled,
        arrived=record.arrived,
        refused=[{"client": who, "reason": why} for who, why in record.refused.items()],
        absent=record.absent,
        examples=record.examples,
        metric=of_it.metric if of_it else None,
        value=of_it.value if of_it else None,
        loss=of_it.loss if of_it else None,
        bytes_received=record.received,
        bytes_sent=record.sent,
    )


def _privacy_words(privacy: UpdatePrivacy | None) -> str:
    if privacy is None:
        return ""
    return f"clip {privacy.clip:g}, noise {privacy.noise:g}, delta {privacy.delta:g}"


def measured_words(found: Measured | None) -> str:
    """Return what clients found of an average, to stand behind something else; empty: nothing."""
    if found is None:
        return ""
    value = shown(found.metric, found.value)
    return f"; {found.metric} {value}, loss {found.loss:.4f} of round {found.round}'s average"
