"""Who comes next, by each of the three rules; nothing is lost, and nobody waits forever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sft_cloud.fairness import QUEUES, FairQueue, FifoQueue, LongestFirstQueue, Queue, Share


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


def order_of(queue: Queue[str], came: list[tuple[str, Share]]) -> list[str]:
    """Return the order in which work that waits at once is served, a second each."""
    for name, share in came:
        queue.put(share, name)
    names = []
    for _ in came:
        name, share = queue.take()
        names.append(name)
        queue.charge(share, 1.0)
    return names


def test_fifo_keeps_the_order_of_arrival_whatever_anybody_had() -> None:
    queue, hog = FifoQueue[str](), Share(own_seconds=1.0)
    queue.charge(hog, 100.0)
    assert order_of(queue, [("a", hog), ("b", Share()), ("c", hog)]) == ["a", "b", "c"]


def test_longest_first_serves_the_longest_edge_first_and_ties_by_arrival() -> None:
    came = [(str(own), Share(own_seconds=own)) for own in (0.5, 2.0, 8.0, 1.0)]
    came.insert(1, ("also 8.0", Share(own_seconds=8.0)))
    expected = ["also 8.0", "8.0", "2.0", "1.0", "0.5"]
    assert order_of(LongestFirstQueue(), came) == expected


def test_who_is_not_measured_yet_counts_as_the_longest_that_waits() -> None:
    long, short = Share(own_seconds=8.0), Share(own_seconds=1.0)
    came = [("short", short), ("new", Share()), ("long", long), ("newer", Share())]
    # The first came when nobody longer than a second waited, and that much it is ahead.
    assert order_of(LongestFirstQueue(), came) == ["long", "newer", "short", "new"]


def test_a_short_edge_waits_no_longer_than_the_longest_edge_is_away() -> None:
    """Work of longer edges comes without end, a piece a second."""
    queue, long, short, passed = LongestFirstQueue[str](), 11.0, 1.0, 0
    queue.put(Share(long), "long")
    queue.put(Share(short), "short")
    while (taken := queue.take())[0] != "short":
        passed += 1
        queue.charge(taken[1], 1.0)
        queue.put(Share(long), "long")
    assert passed == long - short


@pytest.mark.parametrize("name", QUEUES)
def test_a_shared_share_neither_starves_nor_is_starved(name: str) -> None:
    """Work that is nobody's session's has one share, whose own time is none (scheduler.py)."""
    queue, nobody, busy = QUEUES[name](), Share(own_seconds=0.0), Share(own_seconds=5.0)
    for _ in range(100):
        queue.put(nobody, "nobody")
    order = list[str]()
    queue.put(busy, "busy")
    for _ in range(120):
        work, share = queue.take()
        order.append(work)
        queue.charge(share, 1.0)
        if share is busy:
            queue.put(busy, "busy")
    assert order.count("nobody") >= 20 and "busy" in order


class Served(RuleBasedStateMachine):
    """Sessions come and go with work; every queue serves all of it, each session's in order."""

    queue: Queue[tuple[int, int]]
    rule_name: str

    def __init__(self) -> None:
        super().__init__()
        self.queue = QUEUES[self.rule_name]()
        self.shares = [Share(), Share(0.0), Share(0.3), Share(4.0), Share()]
        self.waiting: list[list[int]] = [[] for _ in self.shares]
        self.number = 0

    @rule(who=st.integers(0, 4))
    def put(self, who: int) -> None:
        self.number += 1
        self.queue.put(self.shares[who], (who, self.number))
        self.waiting[who].append(self.number)

    @rule(who=st.integers(0, 4), own=st.floats(0, 100))
    def measure(self, who: int, own: float) -> None:
        self.shares[who].own_seconds = own

    @precondition(lambda self: any(self.waiting))
    @rule(seconds=st.floats(0, 10))
    def serve(self, seconds: float) -> None:
        (who, number), share = self.queue.take()
        assert share is self.shares[who]
        assert number == self.waiting[who].pop(0)
        self.queue.charge(share, seconds)

    @rule(who=st.integers(0, 4), seconds=st.floats(0, 0.01))
    def beside(self, who: int, seconds: float) -> None:
        self.queue.charge(self.shares[who], seconds)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == sum(map(len, self.waiting))

    def teardown(self) -> None:
        left = [self.queue.take()[0] for _ in range(len(self.queue))]
        for who, numbers in enumerate(self.waiting):
            assert [number for owner, number in left if owner == who] == numbers


CASES = {name: type(f"Served{name}", (Served,), {"rule_name": name}).TestCase for name in QUEUES}
TestFair, TestFifo, TestLongestFirst = CASES.values()


@pytest.mark.parametrize("name", QUEUES)
@given(st.lists(st.integers(0, 3), max_size=20), st.floats(0, 10))
def test_alike_sessions_that_ask_at_once_are_served_as_they_came(
    name: str, came: list[int], own: float
) -> None:
    queue, shares = QUEUES[name](), [Share(own) for _ in range(4)]
    for place, who in enumerate(came):
        queue.put(shares[who], place)
    assert [queue.take()[0] for _ in came] == list(range(len(came)))


@given(
    st.lists(st.floats(0, 20), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.01, 3)), max_size=40),
)
def test_nobody_is_passed_by_what_comes_later_than_the_difference_of_own_times(
    owns: list[float], story: list[tuple[int, float]]
) -> None:
    """The bound, whatever comes: seconds of the device between two arrivals, never more."""
    queue, shares = LongestFirstQueue[tuple[int, float]](), [Share(own) for own in owns]
    now, waiting = 0.0, list[tuple[int, float]]()
    for number, share in enumerate(shares):
        queue.put(share, (number, now))
        waiting.append((number, now))
    for who, seconds in story:
        (served_, came), share = queue.take()
        waiting.remove((served_, came))
        for other, before in waiting:
            assert came - before <= max(0.0, owns[served_] - owns[other]) + 1e-9
        queue.charge(share, seconds)
        now += seconds
        queue.put(shares[who % len(owns)], (who % len(owns), now))
        waiting.append((who % len(owns), now))
