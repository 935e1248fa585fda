"""Which client gets which row: alike, or skewed by class. It knows numbers of rows alone.

Random numbers are numpy's `RandomState`, whose stream is frozen: later versions of numpy, and other
machines, deal the same. `Generator`, its successor, promises that for no method.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dealt(rows: int, clients: int, seed: int) -> list[list[int]]:
    """Return the rows of each client, drawn without regard to what is in them.

    Args:
        rows: how many there are.
        clients: how many hands; none stays empty if there are as many rows.
        seed: in 0..2^63 - 1; the same numbers give the same hands.
    """
    order = _random(seed).permutation(rows)
    return [sorted(hand.tolist()) for hand in np.array_split(order, clients)]


def dealt_by_class(
    classes: Sequence[int], clients: int, alpha: float, seed: int
) -> list[list[int]]:
    """Return the rows of each client; of every class the shares are drawn from Dirichlet(alpha).

    The smaller alpha, the fewer clients hold most of a class. A client that would get nothing is
    given one row of whoever has most.

    Args:
        classes: of each row, at least one row for every client.
        clients: how many hands.
        alpha: above 0.
        seed: in 0..2^63 - 1; the same numbers give the same hands.
    """
    assert len(classes) >= clients
    random, numbers = _random(seed), np.asarray(classes)
    hands: list[list[int]] = [[] for _ in range(clients)]
    for found in np.unique(numbers):
        rows = random.permutation(np.flatnonzero(numbers == found))
        ends = np.cumsum(_shares(random, clients, alpha))[:-1]
        # Not cut off but rounded: where one client has nearly all, an end lies at all rows but for
        # the last bit of a sum, which machines round in different ways.
        cuts = np.rint(ends * len(rows)).astype(np.int64)
        for hand, part in zip(hands, np.split(rows, cuts), strict=True):
            hand += part.tolist()
    return _none_empty([sorted(hand) for hand in hands])


def _shares(random: np.random.RandomState, clients: int, alpha: float) -> np.ndarray:
    """Return a draw from the symmetric Dirichlet distribution, shape (clients,).

    Of gammas, taken in logarithms: a gamma of `alpha` is one of `alpha` + 1 times u^(1 / alpha),
    which is below the smallest float for a small alpha.
    """
    gammas = random.standard_gamma(alpha + 1, clients)
    logs = np.log(gammas) + np.log1p(-random.random_sample(clients)) / alpha
    weights = np.exp(logs - logs.max())
    shares: np.ndarray = weights / weights.sum()
    return shares


def _none_empty(hands: list[list[int]]) -> list[list[int]]:
    for hand in hands:
        if not hand:
            hand.append(max(hands, key=len).pop())
    return hands


def _random(seed: int) -> np.random.RandomState:
    return np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32])
