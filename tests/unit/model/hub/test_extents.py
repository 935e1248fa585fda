"""Ranges behave as the sets of bytes that they stand for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sft_common.model.hub.extents import united, without

extents = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)).map(lambda t: (t[0], sum(t))))


@given(extents, extents, st.integers(0, 5))
def test_ranges_are_sets_of_bytes(
    some: list[tuple[int, int]], others: list[tuple[int, int]], gap: int
) -> None:
    def bytes_of(extents: list[tuple[int, int]]) -> set[int]:
        return {at for begin, end in extents for at in range(begin, end)}

    whole = united(some)
    assert bytes_of(whole) == bytes_of(some)
    assert all(left[1] < right[0] for left, right in zip(whole, whole[1:], strict=False))
    left = without(whole, united(others))
    assert bytes_of(left) == bytes_of(some) - bytes_of(others)
    joined = united(some, gap)
    assert bytes_of(some) <= bytes_of(joined)
    assert all(right[0] - left[1] > gap for left, right in zip(joined, joined[1:], strict=False))
