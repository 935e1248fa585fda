"""What is told of a federation: its rounds as plain JSON. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict


class Refusal(TypedDict):
    """A client of whom nothing was averaged."""

    client: str
    reason: str


class Round(TypedDict):
    """A try at a round that has ended."""

    number: int
    """Of the round, from 1; 0 of a calibration."""

    duty: str
    """What clients were to do: "train", "calibrate-cut", "calibrate-tail" or "evaluate"."""

    counts: bool
    """Whether enough arrived; if not, the round was tried again."""

    began: float
    """Seconds since 1970, as `ended`."""

    ended: float
    sampled: list[str]
    """Names of the clients that were asked."""

    arrived: list[str]
    """Those whose update came; it is in the average if the try counts."""

    refused: list[Refusal]
    """All others."""

    absent: list[str]
    """Those of them of whom nothing came."""

    examples: int
    """Of all who arrived."""

    metric: str | None
    """Name of the metric; None where nobody measured one."""

    value: float | None
    """Of the average that came of it, as clients found it when they were given it, later on; in the
    metric's own unit: accuracy 0 to 1. None where none came of it, or nobody looked."""

    loss: float | None
    bytes_received: int
    """By the cloud, from all clients, while it went on, in sessions too."""

    bytes_sent: int


class History(TypedDict):
    """What a federation has been; plain JSON."""

    name: str
    method: str
    model: str
    cut: str
    """In words; "" for none."""

    privacy: str
    """In words; "" for none."""

    clients_known: int
    rounds_planned: int
    failure: str
    """Why it stopped before its end; "" if it did not."""

    rounds: list[Round]
    """All tries in their order, calibrations and the last evaluation among them."""


def averages(rounds: Iterable[Round]) -> list[Round]:
    """Return the rounds of which an average came."""
    return [one for one in rounds if one["counts"] and one["duty"] == "train"]
