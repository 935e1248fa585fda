"""What happened in a federation, round by round: plain facts, for people and for the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sft_cloud.federation.round import ABSENT, Round
from sft_common.federation.said import Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRecord:
    """One try at a round."""

    round: int
    """From 1; 0 of a calibration."""

    number: int
    """Of the try, of all of the federation."""

    duty: str
    """What was to be done, one of `DUTIES`."""

    began: float
    """Seconds since 1970-01-01 00:00 UTC."""

    ended: float
    """The same."""

    sampled: list[str]
    """Clients that were drawn."""

    arrived: list[str]
    """Those whose updates count."""

    refused: dict[str, str] = field(default_factory=dict)
    """Why others' do not."""

    absent: list[str] = field(default_factory=list)
    """Those of these of whom nothing came."""

    counts: bool
    """Whether enough arrived."""

    examples: int = 0
    """Training examples behind the updates."""

    metric: str = ""
    """Of the average that the round began with; empty: nobody looked."""

    value: float | None = None
    """Its mean over the clients that looked, weighted by their validation examples."""

    loss: float | None = None
    """The same of the loss."""

    evaluated: int = 0
    """Validation examples behind it."""

    received: int = 0
    """Bytes of messages that came from clients while it went on, sessions included."""

    sent: int = 0
    """Bytes of messages that went to them."""

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return asdict(self)

    @classmethod
    def of(
        cls, tried: Round, *, began: float, ended: float, counts: bool, received: int, sent: int
    ) -> RoundRecord:
        """Return the record of a round that is closed."""
        updates = tried.updates
        found = [update.finding for update in updates.values() if update.finding is not None]
        return cls(
            round=tried.attempt.round,
            number=tried.attempt.number,
            duty=tried.duty,
            began=began,
            ended=ended,
            sampled=list(tried.drawn),
            arrived=sorted(updates),
            refused=dict(tried.lost),
            absent=sorted(name for name, end in tried.outcomes.items() if end in ABSENT),
            counts=counts,
            examples=sum(update.weight for update in updates.values()),
            received=received,
            sent=sent,
            **_mean(found),
        )


class Measured(NamedTuple):
    """What clients found of an average."""

    round: int
    """Whose average it is; 0: what the federation began with."""

    metric: str
    value: float
    loss: float


def measured(record: RoundRecord) -> Measured | None:
    """Return what a try says of an average, which is that of the round before; None: nothing."""
    if record.value is None or record.loss is None:
        return None
    return Measured(record.round - 1, record.metric, record.value, record.loss)


def last_measured(records: Sequence[RoundRecord]) -> Measured | None:
    """Return what clients last found of an average; None: nobody has looked."""
    return next(filter(None, map(measured, reversed(records))), None)


def _mean(found: list[Finding]) -> dict[str, Any]:
    """Return what clients found, each weighted by its examples; of the metric that most have."""
    if not found:
        return {}
    metrics = [finding.metric for finding in found]
    metric = max(sorted(set(metrics)), key=metrics.count)
    same = [finding for finding in found if finding.metric == metric]
    examples = sum(finding.examples for finding in same)
    value, loss = (
        sum(getattr(finding, name) * (finding.examples / examples) for finding in same)
        for name in ("value", "loss")
    )
    return {"metric": metric, "value": value, "loss": loss, "evaluated": examples}
