"""What is counted, and how Prometheus reads it."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import urlopen

import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sft_cloud.exposition import CloudCollector, serve_metrics
from sft_cloud.host import Host, Limits
from sft_cloud.metrics import BOUNDS, LATEST, Durations, Figures, Meter, Metrics, Traffic
from sft_cloud.scheduler import Scheduler
from sft_common.errors import ConfigError

CPU = torch.device("cpu")

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def host() -> Any:
    scheduler = Scheduler(1)
    yield Host(builder=cast(Any, None), scheduler=scheduler, limits=Limits(max_sessions=3))
    scheduler.close()


def samples(host: Host) -> Samples:
    registry = CollectorRegistry()
    registry.register(CloudCollector(host, CPU))
    return read(generate_latest(registry).decode())


def read(text: str) -> Samples:
    """Return name and label values -> value, as a scraper reads them."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_durations_are_sorted_into_classes() -> None:
    durations = Durations()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1e9):
        durations.add(seconds)
    assert durations.counts[:2] == [2, 1] and durations.counts[-1] == 1
    assert sum(durations.counts) == 4


def test_a_stream_counts_for_its_session_from_its_first_byte() -> None:
    metrics, traffic = Metrics(), Traffic()
    first, second = Meter(metrics), Meter(metrics)
    first.received(100)
    first.belongs_to(traffic)
    first.sent(7)
    second.received(1000)
    assert (traffic.received, traffic.sent) == (100, 7)
    assert (metrics.traffic.received, metrics.traffic.sent) == (1100, 7)


def test_a_session_has_a_rate_while_steps_come() -> None:
    figures = Figures()
    assert figures.steps_per_second(0.0) == 0
    for number in range(3 * LATEST):
        figures.stepped(number / 4)
    last = (3 * LATEST - 1) / 4
    assert figures.steps_per_second(last + 1) == pytest.approx(4)
    assert figures.steps_per_second(last + 60) == 0


def test_micro_batches_are_counted_with_where_their_time_went(host: Host) -> None:
    spent = SimpleNamespace(total=1.0, queue=0.25, compute=0.5)
    host.metrics.answered(spent)
    host.metrics.answered(spent, repeated=True)
    host.metrics.answered(SimpleNamespace(total=0.0, queue=0.0, compute=0.0), "forward")
    found = samples(host)
    assert found["sft_micro_batches_total", ()] == 1
    assert found["sft_repeated_answers_total", ()] == 1
    for phase, seconds in (("queue", 0.25), ("compute", 0.5), ("codec", 0.25)):
        assert found["sft_step_seconds_sum", (phase,)] == seconds
        assert found["sft_step_seconds_count", (phase,)] == 2
    assert found["sft_step_seconds_bucket", ("+Inf", "queue")] == 2
    assert found["sft_step_seconds_bucket", ("0.2", "queue")] == 1
    assert found["sft_step_seconds_bucket", ("0.5", "queue")] == 2


def test_errors_snapshots_and_resumes_are_counted_by_kind(host: Host) -> None:
    metrics = host.metrics
    metrics.failed("NOT_FOUND", "ModelError")
    metrics.resumes["rewound"] += 1
    with metrics.snapshot():
        pass
    with pytest.raises(OSError), metrics.snapshot():
        raise OSError("full")
    found = samples(host)
    assert found["sft_errors_total", ("NOT_FOUND", "ModelError")] == 1
    assert found["sft_resumes_total", ("rewound",)] == 1
    assert found["sft_resumes_total", ("parked",)] == 0
    assert found["sft_snapshots_total", ("written",)] == 1
    assert found["sft_snapshots_total", ("failed",)] == 1
    assert found["sft_snapshot_seconds_count", ()] == 1


def test_all_is_there_from_the_beginning(host: Host) -> None:
    """An alert on what has never happened must find a zero."""
    found = samples(host)
    for state in ("at_work", "waiting", "training", "parked", "finished"):
        assert found["sft_sessions", (state,)] == 0
    assert found["sft_sessions_limit", ()] == 3
    assert (
        found["sft_device_memory_bytes", ("total",)] > found["sft_device_memory_bytes", ("free",)]
    )
    assert found["sft_process_resident_memory_bytes", ()] > 1e6


def test_metrics_are_served_on_a_port_of_their_own(host: Host) -> None:
    server = serve_metrics(host, CPU, "127.0.0.1", 0)
    try:
        with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=20) as answer:
            assert read(answer.read().decode())["sft_steps_total", ()] == 0
        with pytest.raises(ConfigError, match=r"port \d+ on 127.0.0.1 is in use .* --metrics-port"):
            serve_metrics(host, CPU, "127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()


def test_an_address_of_another_machine_is_one_clear_line(host: Host) -> None:
    with pytest.raises(ConfigError, match=r"cannot serve metrics on 192\.0\.2\.1:0: "):
        serve_metrics(host, CPU, "192.0.2.1", 0)


def test_a_port_of_metrics_is_taken_once(host: Host) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use"):
            serve_metrics(host, CPU, "127.0.0.1", port)
