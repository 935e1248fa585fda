"""Federations as Prometheus reads them: their names are labels, those of clients never are.

It is imported with --metrics-port alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sft_cloud.federation.course import TRIED
from sft_cloud.federation.federation import Federation
from sft_cloud.federation.round import OUTCOMES
from sft_cloud.federation.standing import PHASES, Standing, standing_of

NAME = "federation"
"""The label."""


def federation_metrics(federations: Iterable[Federation]) -> Iterator[Metric]:
    """Yield all metrics of all federations; docs/operations.md has a table of them."""
    found = [standing_of(federation) for federation in federations]
    yield _phases(found)
    yield from _rounds(found)
    yield from _measured(found)
    for name, text, bytes_of in (
        ("sft_federation_received_bytes", "Bytes of messages from clients.", lambda s: s.received),
        ("sft_federation_sent_bytes", "Bytes of messages to clients.", lambda s: s.sent),
    ):
        family = CounterMetricFamily(name, text, labels=[NAME])
        _add(family, found, bytes_of)
        yield family


def _phases(found: Sequence[Standing]) -> Metric:
    family = GaugeMetricFamily("sft_federations", "Federations.", labels=["state"])
    counts = Counter(standing.phase for standing in found)
    for phase in PHASES:
        family.add_metric([phase], counts[phase])
    return family


def _rounds(found: Sequence[Standing]) -> Iterator[Metric]:
    done = GaugeMetricFamily("sft_federation_round", "Rounds in the average.", labels=[NAME])
    _add(done, found, lambda standing: standing.done)
    yield done
    planned = GaugeMetricFamily("sft_federation_rounds_planned", "Rounds planned.", labels=[NAME])
    _add(planned, found, lambda standing: standing.plan.rounds)
    yield planned
    clients = GaugeMetricFamily("sft_federation_clients", "Clients.", labels=[NAME, "state"])
    rounds = CounterMetricFamily(
        "sft_federation_rounds", "Tries at rounds.", labels=[NAME, "outcome"]
    )
    updates = CounterMetricFamily(
        "sft_federation_updates", "Updates asked for.", labels=[NAME, "outcome"]
    )
    for standing in found:
        _add_kinds(clients, standing, _clients(standing), ("present", "drawn", "arrived", "lost"))
        _add_kinds(rounds, standing, standing.rounds, TRIED)
        _add_kinds(updates, standing, standing.updates, OUTCOMES)
    yield from (clients, rounds, updates)


def _measured(found: Sequence[Standing]) -> Iterator[Metric]:
    metric = GaugeMetricFamily("sft_federation_metric", "Of the last average.", labels=[NAME])
    loss = GaugeMetricFamily("sft_federation_loss", "Of the last average.", labels=[NAME])
    for standing in found:
        if standing.measured is not None:
            metric.add_metric([standing.plan.name], standing.measured.value)
            loss.add_metric([standing.plan.name], standing.measured.loss)
    yield from (metric, loss)


def _clients(standing: Standing) -> dict[str, int]:
    counts, at = {"present": standing.present}, standing.under_way
    return counts | ({"drawn": at.drawn, "arrived": at.arrived, "lost": at.lost} if at else {})


def _add(
    family: GaugeMetricFamily | CounterMetricFamily,
    found: Iterable[Standing],
    value: Callable[[Standing], float],
) -> None:
    for standing in found:
        family.add_metric([standing.plan.name], value(standing))


def _add_kinds(
    family: GaugeMetricFamily | CounterMetricFamily,
    standing: Standing,
    values: Mapping[str, int],
    known: Iterable[str],
) -> None:
    for kind in known:
        family.add_metric([standing.plan.name, kind], values.get(kind, 0))
