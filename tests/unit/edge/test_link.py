"""How a link is measured, over one whose times are made up."""

from __future__ import annotations

import pytest

from sft_edge import link
from sft_edge.link import SIZES, Link, _rate


class Made:
    """A link with a round trip and a rate; its clock is its own.

    On a quick one a message over 64 KiB waits in its midst, as HTTP/2 has it.
    """

    def __init__(self, round_trip: float, rate: float, cold: int = 0) -> None:
        self.round_trip, self.rate, self.cold = round_trip, rate, cold
        self.now, self.sent = 0.0, list[int]()

    def send(self, size: int) -> None:
        slow = 3.0 if len(self.sent) < self.cold else 1.0
        waits = 2 if size > 2**16 and 2**16 / self.rate < self.round_trip else 1
        self.sent.append(size)
        self.now += slow * (waits * self.round_trip + size / self.rate)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> type[Made]:
    class Clocked(Made):
        def __init__(self, *arguments: float) -> None:
            super().__init__(*arguments[:2], *map(int, arguments[2:]))
            monkeypatch.setattr(link.time, "perf_counter", lambda: self.now)
            monkeypatch.setattr(link.time, "monotonic", lambda: self.now)

    return Clocked


@pytest.mark.parametrize(
    ("round_trip", "rate", "size"), [(0.02, 1e7, 2**20), (0.1, 625_000, 2**18), (0.2, 1e4, 2**14)]
)
def test_a_rate_is_found_with_messages_that_fit_it(
    measured: type[Made], round_trip: float, rate: float, size: int
) -> None:
    made = measured(round_trip, rate)
    assert _rate(made.send, round_trip) == (size, pytest.approx(rate))


def test_the_first_messages_do_not_count(measured: type[Made]) -> None:
    made = measured(0.02, 1e7, 6)
    assert _rate(made.send, 0.02)[1] == pytest.approx(1e7)
    assert made.sent[:4] == list(SIZES)


def test_a_slow_link_does_not_take_for_ever(measured: type[Made]) -> None:
    made = measured(1.0, 2000)
    _rate(made.send, 1.0)
    assert len(made.sent) == 1


def test_noise_makes_no_endless_rate(measured: type[Made]) -> None:
    made = measured(0.01, 1e15)
    assert _rate(made.send, 0.01)[1] == pytest.approx(0.75 * 2**20 / 0.002, rel=0.01)


def test_a_link_says_how_long_a_step_is_on_the_way() -> None:
    found = Link(round_trip_seconds=0.1, up_bytes_per_second=1000, down_bytes_per_second=500)
    assert found.seconds(1000, 1000) == pytest.approx(3.1)
