"""(B, M, W) <-> (T, W)."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_common.wire.packing import mask_of, pack, unpack

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(LENGTHS, st.integers(1, 5))
def test_a_round_trip_keeps_real_tokens_and_zeroes_padding(lengths: list[int], width: int) -> None:
    x = torch.randn(len(lengths), max(lengths), width)
    mask = mask_of(lengths, max(lengths))
    packed = pack(x, mask)
    assert packed.shape == (sum(lengths), width)
    assert torch.equal(unpack(packed, lengths), x * mask[..., None])


@given(LENGTHS)
def test_padding_on_the_left_arrives_on_the_right(lengths: list[int]) -> None:
    x = torch.randn(len(lengths), max(lengths), 2)
    mask = mask_of(lengths, max(lengths)).flip(1)
    arrived = unpack(pack(x, mask), lengths)
    for row, length in enumerate(lengths):
        assert torch.equal(arrived[row, :length], x[row, max(lengths) - length :])
        assert not arrived[row, length:].any()


def test_examples_follow_one_another() -> None:
    x = torch.arange(6.0).reshape(2, 3, 1)
    assert pack(x, mask_of([2, 3], 3)).flatten().tolist() == [0, 1, 3, 4, 5]


def test_the_gradient_of_padding_is_zero() -> None:
    x = torch.randn(2, 3, 1, requires_grad=True)
    pack(x, mask_of([1, 3], 3)).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 0, 0, 1, 1, 1]
