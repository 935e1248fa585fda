"""(B, M, W) <-> (T, W)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_common.wire.packing import lengths_of, mask_of, pack, unpack

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(LENGTHS, st.integers(1, 5))
def test_a_round_trip_keeps_real_tokens_and_zeroes_padding(lengths: list[int], width: int) -> None:
    x = torch.randn(len(lengths), max(lengths), width)
    packed = pack(x, lengths)
    assert packed.shape == (sum(lengths), width)
    mask = mask_of(lengths, max(lengths))
    assert torch.equal(unpack(packed, lengths), x * mask[..., None])
    assert lengths_of(mask) == lengths


def test_examples_follow_one_another() -> None:
    x = torch.arange(6.0).reshape(2, 3, 1)
    assert pack(x, [2, 3]).flatten().tolist() == [0, 1, 3, 4, 5]


def test_the_gradient_of_padding_is_zero() -> None:
    x = torch.randn(2, 3, 1, requires_grad=True)
    pack(x, [1, 3]).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("mask", "message"),
    [([[0, 1, 1]], "pad on the right"), ([[1, 0, 1]], "pad on the right"), ([[0, 0]], "no tokens")],
)
def test_other_masks_are_refused(mask: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lengths_of(torch.tensor(mask))
