"""Which examples stay: a share of them, rounded up as a person would."""

from __future__ import annotations

import pytest
import torch

from sft_edge.federation.pruning import hardest


@pytest.mark.parametrize(
    ("share", "examples", "stay"),
    [(0.55, 100, 55), (0.07, 100, 7), (0.5, 5, 3), (0.5, 1, 1), (1e-6, 3, 1), (1.0, 7, 7)],
)
def test_a_share_of_the_examples_stays(share: float, examples: int, stay: int) -> None:
    assert len(hardest(torch.rand(examples), share)) == stay


def test_those_with_the_largest_scores_stay_and_of_equal_ones_the_first() -> None:
    assert hardest(torch.tensor([0.1, 0.9, 0.5, 0.9, 0.9]), 0.4) == [1, 3]
