"""Bytes of messages with their framing."""

from __future__ import annotations

import pytest

from sft_edge.traffic import CloudTime, Traffic, framed_bytes


@pytest.mark.parametrize(
    ("message", "on_the_connection"),
    [
        (0, 0 + 5 + 9),
        (16_379, 16_379 + 5 + 9),  # fills one HTTP/2 frame
        (16_380, 16_380 + 5 + 18),
        (6_500_000, 6_500_000 + 5 + 397 * 9),
    ],
)
def test_framing(message: int, on_the_connection: int) -> None:
    assert framed_bytes(message) == on_the_connection


def test_both_directions_are_counted() -> None:
    traffic = Traffic()
    up, down = traffic.bytes_up, traffic.bytes_down
    traffic.sent(1000)
    traffic.received(2000)
    assert 1014 <= traffic.bytes_up - up <= 1100
    assert 2014 <= traffic.bytes_down - down <= 2100


@pytest.mark.parametrize(
    ("waited", "exchange", "cloud", "on_wire", "on_cloud"),
    [
        (1.0, 1.0, 0.6, 0.4, 0.6),  # nothing else to do: all of it
        (0.1, 1.0, 0.6, 0.1, 0.0),  # only for the way down
        (0.5, 1.0, 0.6, 0.2, 0.3),  # the way down and half of the cloud's work
        (0.9, 1.0, 0.6, 0.3, 0.6),
        (0.0, 1.0, 0.6, 0.0, 0.0),
        (0.2, 0.1, 0.3, 0.0, 0.2),  # clocks of two machines
    ],
)
def test_of_a_wait_what_came_last_counts_first(
    waited: float, exchange: float, cloud: float, on_wire: float, on_cloud: float
) -> None:
    traffic = Traffic()
    traffic.waited(waited, exchange=exchange, cloud=CloudTime(cloud, cloud / 4, cloud / 2))
    assert traffic.wire_seconds == pytest.approx(on_wire)
    assert traffic.cloud_seconds == pytest.approx(on_cloud)
    parts = traffic.queue_seconds, traffic.compute_seconds, traffic.cloud_codec_seconds
    assert parts == pytest.approx((cloud / 4, cloud / 2, cloud / 4))
    assert traffic.way_seconds == pytest.approx(max(0, exchange - cloud))
