"""What is told of a federation: its rounds as plain JSON. It draws nothing."""

from __future__ import annotations

from typing import TypedDict


class Refusal(TypedDict):
    """What a client handed in that was not averaged."""

    client: str
    reason: str


class Round(TypedDict):
    """A round that has ended."""

    number: int
    """From 1."""

    began: float
    """Seconds since 1970, as `ended`."""

    ended: float
    sampled: list[str]
    """Names of the clients that were asked."""

    arrived: list[str]
    """Those whose update is in the average."""

    refused: list[Refusal]
    examples: int
    """Behind the average, of all who arrived."""

    metric: str | None
    """Name of the metric; None where nobody measured one."""

    value: float | None
    """Of the average, as the clients found it, in the metric's own unit: accuracy 0 to 1."""

    loss: float | None
    bytes_received: int
    """By the cloud, from all clients, in this round."""

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
    rounds: list[Round]
    """In their order."""
