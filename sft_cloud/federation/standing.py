"""Where a federation stands now: plain facts, for the owner's table and for metrics.

It may be asked for on any thread. It knows no messages.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sft_cloud.federation.federation import Federation
from sft_cloud.federation.record import Measured, RoundRecord, last_measured
from sft_cloud.federation.round import Round
from sft_common.federation.plan import FederationPlan

PHASES = ("waiting", "calibrating", "training", "evaluating", "ended", "failed")
"""What a federation does."""

_PHASE_OF = {
    "calibrate-cut": "calibrating",
    "calibrate-tail": "calibrating",
    "train": "training",
    "evaluate": "evaluating",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class UnderWay:
    """A try at a round that goes on."""

    round: int
    """As of an `Attempt`."""

    number: int
    """Of the tries at this round, from 1."""

    drawn: int
    """Clients that take part."""

    arrived: int
    """Those that have handed in."""

    lost: int
    """Those that it goes on without."""

    seconds: float
    """Since it began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What there is to say of a federation now."""

    plan: FederationPlan
    """What it is about."""

    phase: str
    """One of `PHASES`."""

    failure: str
    """What it stopped with; empty: it did not."""

    done: int
    """Rounds that are in the average."""

    under_way: UnderWay | None
    """None: no try goes on."""

    measured: Measured | None
    """What clients last found of an average; None: nobody has looked."""

    present: int
    """Clients that are there."""

    known: int
    """Clients that were ever there since the cloud was started."""

    received: int
    """Bytes of messages that came from clients since then, sessions included."""

    sent: int
    """Bytes of messages that went to them."""

    rounds: Mapping[str, int]
    """Tries at rounds and calibrations since then, by outcome, one of `TRIED`."""

    updates: Mapping[str, int]
    """What became of what clients were to hand in for them, by outcome, one of `OUTCOMES`."""


def standing_of(federation: Federation) -> Standing:
    """Return how a federation stands."""
    known, tried = federation.progress, federation.round
    return Standing(
        plan=federation.plan,
        phase=_phase(federation, tried),
        failure=str(federation.failure or ""),
        done=known.done,
        under_way=_under_way(federation, tried, known.records),
        measured=last_measured(known.records),
        present=len(federation.members.present),
        known=len(federation.members.known),
        received=federation.traffic.received,
        sent=federation.traffic.sent,
        rounds=dict(federation.tried),
        updates=dict(federation.handed_in),
    )


def _phase(federation: Federation, tried: Round | None) -> str:
    if federation.failure is not None:
        return "failed"
    if federation.ended:
        return "ended"
    if tried is None or federation.waits:
        return "waiting"
    return _PHASE_OF[tried.duty]


def _under_way(
    federation: Federation, tried: Round | None, records: Sequence[RoundRecord]
) -> UnderWay | None:
    if tried is None or tried.closed or federation.failure is not None:
        return None
    return UnderWay(
        round=tried.attempt.round,
        number=1 + _in_vain(records, tried),
        drawn=len(tried.drawn),
        arrived=len(tried.updates),
        lost=len(tried.lost),
        seconds=max(0.0, time.time() - federation.round_began),
    )


def _in_vain(records: Sequence[RoundRecord], tried: Round) -> int:
    """Return how often this round was tried before."""
    count = 0
    for record in reversed(records):
        if record.counts or (record.round, record.duty) != (tried.attempt.round, tried.duty):
            break
        count += 1
    return count
