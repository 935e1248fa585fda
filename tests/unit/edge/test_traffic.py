"""Bytes of messages with their framing."""

from __future__ import annotations

import pytest

from sft_edge.traffic import Traffic, framed_bytes


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
