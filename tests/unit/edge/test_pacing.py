"""How many micro-batches a batch is cut into."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_edge.pacing import AUTO, CANDIDATES, ROUNDS, WARM_UP, Pacing


def settle(pacing: Pacing, cost: dict[int, float], tokens: list[int]) -> list[int]:
    """Return the numbers that were tried until it settled."""
    tried = []
    while not pacing.settled:
        tried.append(pacing.count)
        number = tokens[len(tried) % len(tokens)]
        pacing.stepped(cost[pacing.count] * number, number)
    return tried


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_given_number_stays(count: int) -> None:
    pacing = Pacing(count)
    assert pacing.settled
    for seconds in (1.0, 100.0):
        pacing.stepped(seconds, 7)
        assert pacing.count == count


@given(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4, unique=True),
    st.lists(st.integers(1, 5000), min_size=1, max_size=30),
)
def test_the_cheapest_of_a_few_is_found_whatever_the_batches_hold(
    costs: list[float], tokens: list[int]
) -> None:
    cost = dict(zip(CANDIDATES, costs, strict=True))
    pacing = Pacing(AUTO)
    tried = settle(pacing, cost, tokens)
    assert pacing.count == min(cost, key=cost.__getitem__)
    assert Counter(tried[WARM_UP:]) == dict.fromkeys(CANDIDATES, ROUNDS)
    pacing.stepped(1e9, 1)
    assert pacing.count == min(cost, key=cost.__getitem__)


def test_slow_first_steps_do_not_count() -> None:
    pacing = Pacing(AUTO)
    for _ in range(WARM_UP):
        pacing.stepped(1e6, 1)
    settle(pacing, {1: 0.1, 2: 0.2, 4: 0.3, 8: 0.4}, [100])
    assert pacing.count == 1
