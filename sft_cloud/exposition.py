"""The numbers of metrics.py as Prometheus reads them, on a port of their own.

They are put together when they are asked for, on the port's own thread. No name of a session or an
edge is among them, those of federations are. It is imported with --metrics-port alone.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from wsgiref.simple_server import WSGIServer

import torch
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sft_cloud.federation.exposition import federation_metrics
from sft_cloud.federation.federation import Federation
from sft_cloud.host import Host
from sft_cloud.metrics import BOUNDS, Durations
from sft_cloud.overview import (
    STATES,
    count_states,
    device_memory,
    disk_free_bytes,
    resident_bytes,
)
from sft_common import __version__
from sft_common.errors import ConfigError


class CloudCollector(Collector):
    """Puts the metrics of a cloud together.

    Args:
        host: whose they are.
        device: where net2 runs.
        federations: those that it leads.
    """

    def __init__(
        self, host: Host, device: torch.device, federations: Iterable[Federation] = ()
    ) -> None:
        self._host, self._device, self._federations = host, device, federations

    def collect(self) -> Iterator[Metric]:
        """Yield everything; docs/operations.md has a table of it."""
        yield from self._work()
        yield from self._durations()
        yield from self._sessions()
        yield from federation_metrics(self._federations)
        yield from self._machine()

    def _work(self) -> Iterator[Metric]:
        counted = self._host.metrics
        yield _counter("sft_steps", "Optimizer steps applied.", counted.steps)
        yield _counter("sft_micro_batches", "Micro-batches computed.", counted.micro_batches)
        yield _counter("sft_repeated_answers", "Answers sent once more.", counted.repeated)
        yield _counter("sft_evaluations", "Evaluation batches computed.", counted.evaluations)
        yield _counter(
            "sft_received_bytes", "Bytes of messages from edges.", counted.traffic.received
        )
        yield _counter("sft_sent_bytes", "Bytes of messages to edges.", counted.traffic.sent)
        errors = CounterMetricFamily(
            "sft_errors", "Calls that ended with an error.", labels=["code", "error"]
        )
        for (code, error), count in list(counted.errors.items()):
            errors.add_metric([code, error], count)
        yield errors

    def _durations(self) -> Iterator[Metric]:
        counted = self._host.metrics
        steps = HistogramMetricFamily(
            "sft_step_seconds", "The cloud's time of a micro-batch.", labels=["phase"]
        )
        for phase, durations in counted.phases.items():
            steps.add_metric([phase], _classes(durations), durations.seconds)
        yield steps
        snapshots = HistogramMetricFamily("sft_snapshot_seconds", "Time to write a snapshot.")
        seconds = counted.snapshot_seconds
        snapshots.add_metric([], _classes(seconds), seconds.seconds)
        yield snapshots

    def _sessions(self) -> Iterator[Metric]:
        host, counted = self._host, self._host.metrics
        yield _gauges("sft_sessions", "Sessions.", "state", count_states(host), STATES)
        most = host.limits.max_sessions
        yield GaugeMetricFamily("sft_sessions_limit", "Sessions that fit in memory.", most)
        sharing = host.residents.admission.sharing
        yield GaugeMetricFamily("sft_sessions_sharing", "Sessions that take no place.", sharing)
        yield _counter("sft_sessions_opened", "Sessions opened.", counted.opened)
        yield _counter("sft_sessions_closed", "Sessions closed by their edge.", counted.closed)
        yield _counter("sft_sessions_deleted", "Sessions deleted.", counted.deleted)
        yield _counters("sft_resumes", "Sessions taken up again.", "how", counted.resumes, RESUMES)
        yield _counters(
            "sft_snapshots", "Snapshots of sessions.", "outcome", counted.snapshots, OUTCOMES
        )

    def _machine(self) -> Iterator[Metric]:
        host = self._host
        depth = host.scheduler.queue_depth
        yield GaugeMetricFamily("sft_device_queue_depth", "Work waiting for the device.", depth)
        total, free = device_memory(self._device)
        kinds = {"total": total, "free": free}
        yield _gauges("sft_device_memory_bytes", "Memory of the device.", "kind", kinds, kinds)
        yield GaugeMetricFamily(
            "sft_process_resident_memory_bytes", "Resident memory.", resident_bytes()
        )
        yield GaugeMetricFamily(
            "sft_disk_free_bytes", "Room left for sessions.", disk_free_bytes(host.store)
        )
        yield GaugeMetricFamily("sft_draining", "1 while it stops, else 0.", int(host.stopping))
        started = host.metrics.started
        yield GaugeMetricFamily("sft_start_time_seconds", "Start, since 1970.", started)
        version = GaugeMetricFamily("sft_build_info", "Always 1.", labels=["version"])
        version.add_metric([__version__], 1)
        yield version


RESUMES = ("in_memory", "parked", "rewound")
OUTCOMES = ("written", "failed")


def serve_metrics(
    host: Host,
    device: torch.device,
    address: str,
    port: int,
    federations: Iterable[Federation] = (),
) -> WSGIServer:
    """Serve the metrics of a cloud on a thread; returns what to shut down.

    Args:
        host: whose they are.
        device: where net2 runs.
        address: name or address to listen on.
        port: TCP port; 0 takes a free one.
        federations: those that it leads.

    Raises:
        ConfigError: the port is in use, or the address is not of this machine.
    """
    registry = CollectorRegistry()
    registry.register(CloudCollector(host, device, federations))
    try:
        server, _ = start_http_server(port, address, registry)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {address} is in use by another program; choose another "
                "--metrics-port"
            ) from error
        raise ConfigError(f"cannot serve metrics on {address}:{port}: {error.strerror}") from error
    return server


def _classes(durations: Durations) -> list[tuple[str, float]]:
    """Return the classes as Prometheus has them: each with all that are shorter."""
    found, total = [], 0
    for bound, count in zip((*BOUNDS, float("inf")), list(durations.counts), strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(total)))
    return found


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _counters(
    name: str, text: str, label: str, values: Mapping[str, int], known: Iterable[str]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key in known:
        family.add_metric([key], values.get(key, 0))
    return family


def _gauges(
    name: str, text: str, label: str, values: Mapping[str, int], known: Iterable[str]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key in known:
        family.add_metric([key], values.get(key, 0))
    return family
