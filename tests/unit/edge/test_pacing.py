"""How many micro-batches a batch is cut into."""

from __future__ import annotations

import random
from collections import Counter
from itertools import cycle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sft_edge.pacing import AUTO, CANDIDATES, ROUNDS, WARM_UP, Pacing

COSTS = st.permutations([0.5, 0.8, 1.0, 1.3])

LENGTHS = [131, 224, 320, 506, 871]
"""Tokens of batches of about one length each, of SST-2."""


def settle(pacing: Pacing, cost: dict[int, float], batches: list[int], fixed: float) -> list[int]:
    """Return the numbers that were tried until it settled; a step has a part without tokens."""
    tried, tokens = list[int](), cycle(batches)
    while not pacing.settled:
        tried.append(pacing.count)
        number = next(tokens)
        pacing.stepped(cost[pacing.count] * (fixed + number), number)
    return tried


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_given_number_stays(count: int) -> None:
    pacing = Pacing(count)
    assert pacing.settled
    for seconds in (1.0, 100.0):
        pacing.stepped(seconds, 7)
        assert pacing.count == count


@given(COSTS, st.floats(0, 1000), st.randoms(use_true_random=False))
def test_the_cheapest_of_a_few_is_found_whatever_the_batches_hold(
    costs: list[float], fixed: float, randomness: random.Random
) -> None:
    cost = dict(zip(CANDIDATES, costs, strict=True))
    pacing = Pacing(AUTO)
    tried = settle(pacing, cost, [randomness.choice(LENGTHS) for _ in range(100)], fixed)
    assert pacing.count == min(cost, key=cost.__getitem__)
    assert Counter(tried[WARM_UP:]) == dict.fromkeys(CANDIDATES, ROUNDS)
    pacing.stepped(1e9, 1)
    assert pacing.count == min(cost, key=cost.__getitem__)


@given(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4, unique=True),
    st.lists(st.integers(1, 5000), min_size=1, max_size=30),
)
@example([0.5, 0.625, 0.53125, 0.27], [450, 1030, 518, 10, 2, 33, 1, 42, 5, 1064, 1, 2])
def test_where_every_token_costs_the_same_any_batches_will_do(
    costs: list[float], batches: list[int]
) -> None:
    """Even if each number always got the same batch."""
    cost = dict(zip(CANDIDATES, costs, strict=True))
    pacing = Pacing(AUTO)
    settle(pacing, cost, batches, fixed=0)
    assert cost[pacing.count] == pytest.approx(min(cost.values()))


@pytest.mark.parametrize("first", range(len(LENGTHS)))
def test_a_number_that_got_the_longest_batches_is_not_favoured(first: int) -> None:
    """Seconds a token would be: a step takes a while without any."""
    pacing = Pacing(AUTO)
    batches = LENGTHS[first:] + LENGTHS[:first]
    settle(pacing, {1: 1.0, 2: 0.97, 4: 0.94, 8: 1.0}, batches, fixed=190)
    assert pacing.count == 4


@pytest.mark.parametrize("tokens", [0, 100])
def test_batches_of_one_size_will_do(tokens: int) -> None:
    pacing = Pacing(AUTO)
    settle(pacing, {1: 0.4, 2: 0.2, 4: 0.3, 8: 0.4}, [tokens], fixed=1)
    assert pacing.count == 2


def test_a_step_that_was_held_up_hardly_counts() -> None:
    pacing, held_up = Pacing(AUTO), 0
    while not pacing.settled:
        seconds = {1: 1.0, 2: 0.9, 4: 0.8, 8: 1.0}[pacing.count]
        if pacing.count == 4 and held_up < 2 and pacing._tried:
            held_up, seconds = held_up + 1, 10.0
        pacing.stepped(seconds, 100)
    assert (held_up, pacing.count) == (2, 4)


def test_slow_first_steps_do_not_count() -> None:
    pacing = Pacing(AUTO)
    for _ in range(WARM_UP):
        pacing.stepped(1e6, 1)
    settle(pacing, {1: 0.1, 2: 0.2, 4: 0.3, 8: 0.4}, [100], fixed=0)
    assert pacing.count == 1
