"""Rows dealt to clients: every one once, the same anywhere, skewed as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_edge.shard.dealing import dealt, dealt_by_class

seeds = st.integers(0, 2**63 - 1)
alphas = st.floats(1e-3, 1e6)


@st.composite
def classes_and_clients(draw: st.DrawFn) -> tuple[list[int], int]:
    classes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=80))
    return classes, draw(st.integers(1, len(classes)))


def is_partition(hands: list[list[int]], rows: int) -> bool:
    """Every row is in one hand, no hand is empty, each keeps the order of the file."""
    in_order = all(hand == sorted(hand) and hand for hand in hands)
    return in_order and sorted(row for hand in hands for row in hand) == list(range(rows))


@given(st.integers(1, 200), st.data(), seeds)
def test_alike_clients_share_all_rows_evenly(rows: int, data: st.DataObject, seed: int) -> None:
    clients = data.draw(st.integers(1, rows))
    hands = dealt(rows, clients, seed)
    assert len(hands) == clients and is_partition(hands, rows)
    assert max(map(len, hands)) - min(map(len, hands)) <= 1
    assert dealt(rows, clients, seed) == hands


@given(classes_and_clients(), alphas, seeds)
def test_skewed_clients_share_all_rows(
    drawn: tuple[list[int], int], alpha: float, seed: int
) -> None:
    classes, clients = drawn
    hands = dealt_by_class(classes, clients, alpha, seed)
    assert len(hands) == clients and is_partition(hands, len(classes))
    assert dealt_by_class(classes, clients, alpha, seed) == hands


def test_another_seed_deals_otherwise() -> None:
    classes = [n % 2 for n in range(100)]
    for deal in (lambda s: dealt(100, 5, s), lambda s: dealt_by_class(classes, 5, 1.0, s)):
        assert len({str(deal(seed)) for seed in (0, 1, 2**32, 2**63 - 1)}) == 4


def skew(alpha: float, seed: int) -> float:
    """Return how far the mixes of classes are from that of all rows, 0 to 1, over the rows."""
    classes = np.array([n % 4 for n in range(2000)])
    apart = 0.0
    for hand in dealt_by_class(classes.tolist(), 10, alpha, seed):
        mix = np.bincount(classes[hand], minlength=4) / len(hand)
        apart += len(hand) / len(classes) * np.abs(mix - 0.25).sum() / 2
    return apart


def test_clients_differ_more_as_alpha_falls() -> None:
    means = [
        np.mean([skew(alpha, seed) for seed in range(20)]) for alpha in (0.01, 0.1, 1, 10, 1e3)
    ]
    assert means == sorted(means, reverse=True)
    # One client has nearly all of a class at one end; the mixes are those of all rows at the other.
    assert means[0] > 0.5 and means[-1] < 0.05


def test_shares_have_the_moments_of_the_distribution() -> None:
    """Dirichlet(a, ..., a) over K: mean 1/K, variance (K - 1) / (K^2 (K a + 1))."""
    clients, alpha, rows = 5, 0.5, 1000
    sizes = np.array(
        [[len(h) for h in dealt_by_class([0] * rows, clients, alpha, seed)] for seed in range(800)]
    )
    shares = sizes / rows
    expected = (clients - 1) / (clients**2 * (clients * alpha + 1))
    assert np.allclose(shares.mean(axis=0), 1 / clients, atol=0.03)
    assert shares.var() == pytest.approx(expected, rel=0.1)


def test_a_client_that_would_get_nothing_gets_one_row_of_the_largest() -> None:
    hands = dealt_by_class([0] * 50, 10, 1e-3, 0)
    sizes = sorted(map(len, hands))
    assert sizes == [1] * 9 + [41]


def test_other_versions_and_machines_deal_the_same() -> None:
    assert dealt(10, 3, 5) == [[1, 3, 5, 7], [4, 6, 8], [0, 2, 9]]
    assert dealt(10, 3, 2**40 + 5) == [[3, 5, 6, 9], [1, 7, 8], [0, 2, 4]]
    assert dealt_by_class([n % 3 for n in range(18)], 3, 0.5, 7) == [
        [1, 3, 6, 8, 9, 12, 13, 15, 17],
        [7, 10, 11, 14],
        [0, 2, 4, 5, 16],
    ]
