"""The device is shared evenly by seconds, not by requests."""

from __future__ import annotations

import pytest

from sft_cloud.fairness import FairQueue, Share


def served(costs: dict[str, float], seconds: float, *, joins: dict[str, float]) -> dict[str, float]:
    """Return what each session got of a device, each with one piece of work waiting at a time.

    Args:
        costs: seconds of a piece of a session's work.
        seconds: to simulate.
        joins: when a session begins to ask; 0 for those left out.
    """
    queue, shares = FairQueue[str](), {name: Share() for name in costs}
    got, clock, asking = dict.fromkeys(costs, 0.0), 0.0, set()
    while clock < seconds:
        for name in costs:
            if name not in asking and joins.get(name, 0) <= clock:
                asking.add(name)
                queue.put(shares[name], name)
        name, share = queue.take()
        queue.charge(share, costs[name])
        clock += costs[name]
        got[name] += costs[name]
        queue.put(share, name)
    return got


def test_long_and_short_work_get_the_same_time() -> None:
    got = served({"small": 0.01, "large": 1.0, "middle": 0.1}, 60, joins={})
    assert got["small"] == pytest.approx(20, abs=1)
    assert got["large"] == pytest.approx(20, abs=1)


def test_who_comes_late_gets_an_even_share_from_then_on_and_no_more() -> None:
    got = served({"early": 0.1, "late": 0.1}, 60, joins={"late": 40})
    assert got["late"] == pytest.approx(10, abs=0.5)


def test_work_of_the_same_share_keeps_its_order() -> None:
    queue, share = FairQueue[int](), Share()
    for number in range(5):
        queue.put(share, number)
    assert [queue.take()[0] for _ in range(5)] == list(range(5))
