"""Activations of a frozen edge in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sft_cloud.cache import EXAMPLE_BYTES, LABEL_BYTES, PART_BYTES, ActivationCache
from sft_common.errors import CapacityError
from sft_common.wire.codec import tensor_from_proto, tensor_to_proto


def rows(tensor: Tensor, encoding: str = "float32") -> bytes:
    return tensor_to_proto(tensor, encoding).data


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5),
    st.sampled_from([0, 64, 10**6]),
    st.sampled_from(["float32", "int8", "int4"]),
)
def test_what_was_stored_comes_back_in_any_order(
    batches: list[list[int]], memory: int, encoding: str
) -> None:
    cache = ActivationCache(3, encoding, memory_bytes=memory, limit_bytes=10**6)
    stored = []
    for lengths in batches:
        pieces = [torch.randn(length, 3) for length in lengths]
        message = tensor_to_proto(torch.cat(pieces), encoding)
        cache.add(0, message.data, lengths, [[n] for n in range(len(lengths))])
        sent = tensor_from_proto(message, (sum(lengths), 3), "x", encoding)
        stored += [(piece, [n]) for n, piece in enumerate(sent.split(lengths))]
    assert cache.examples(0) == len(stored)
    order = torch.randperm(len(stored)).tolist()
    activation, lengths, labels = cache.batch(0, order)
    assert torch.equal(activation, torch.cat([stored[row][0] for row in order]))
    assert lengths == [len(stored[row][0]) for row in order]
    assert labels == [label for row in order for label in stored[row][1]]
    cache.close()


@pytest.fixture
def cache() -> Iterator[ActivationCache]:
    with closing(ActivationCache(2, "float32", memory_bytes=8, limit_bytes=2300)) as made:
        yield made


def test_parts_are_kept_apart(cache: ActivationCache) -> None:
    cache.add(0, rows(torch.ones(2, 2)), [1, 1], [[0], [1]])
    cache.add(2, rows(torch.zeros(2, 2)), [2], [])
    cache.add(0, rows(2 * torch.ones(1, 2)), [1], [[1]])
    assert cache.parts == [0, 2]
    assert (cache.examples(0), cache.examples(1), cache.examples(2)) == (3, 0, 1)
    activation, lengths, labels = cache.batch(0, [2, 0])
    assert activation.tolist() == [[2, 2], [1, 1]]
    assert (lengths, labels) == ([1, 1], [1, 0])
    assert cache.batch(2, [0])[2] == []


def test_more_than_the_limit_is_refused_and_nothing_is_lost(cache: ActivationCache) -> None:
    cache.add(0, rows(torch.ones(4, 2)), [4], [[0]])
    kept = cache.size_bytes
    assert kept == 32 + PART_BYTES + EXAMPLE_BYTES + LABEL_BYTES
    with pytest.raises(CapacityError, match="the examples take more than the 0.00 GB"):
        cache.add(0, rows(torch.ones(200, 2)), [200], [[0]])
    with pytest.raises(CapacityError, match="the examples take more than the 0.00 GB"):
        cache.add(0, rows(torch.ones(1, 2)), [1], [[0] * 200])
    assert cache.size_bytes == kept
    assert torch.equal(cache.batch(0, [0])[0], torch.ones(4, 2))


def test_the_limit_holds_to_the_byte() -> None:
    one_more = 8 + EXAMPLE_BYTES + LABEL_BYTES
    limit = PART_BYTES + 2 * one_more
    with closing(ActivationCache(2, "float32", memory_bytes=8, limit_bytes=limit)) as cache:
        cache.add(0, rows(torch.ones(1, 2)), [1], [[0]])
        for tokens, labels, part in ((2, [0], 0), (1, [0, 0], 0), (1, [0], 1)):
            with pytest.raises(CapacityError):
                cache.add(part, rows(torch.ones(tokens, 2)), [tokens], [labels])
        cache.add(0, rows(torch.ones(1, 2)), [1], [[0]])
        assert cache.size_bytes == limit


def test_numbers_stay_numbers() -> None:
    with closing(
        ActivationCache(1, "float32", memory_bytes=0, limit_bytes=9999, numbers=True)
    ) as cache:
        cache.add(0, rows(torch.zeros(2, 1)), [1, 1], [[0.1], [-2.5]])
        assert cache.batch(0, [1, 0])[2] == [-2.5, 0.1]


def test_a_part_may_hold_examples_with_and_without_labels(cache: ActivationCache) -> None:
    cache.add(1, rows(torch.zeros(2, 2)), [1, 1], [])
    cache.add(1, rows(torch.zeros(2, 2)), [1, 1], [[3], [-100]])
    assert [cache.batch(1, [row])[2] for row in range(4)] == [[], [], [3], [-100]]


def test_the_disk_file_has_no_name_and_goes_with_the_cache(tmp_path: Path) -> None:
    """So that nothing stays behind, however the process ends."""
    cache = ActivationCache(256, "float32", memory_bytes=1000, limit_bytes=10**7, folder=tmp_path)
    cache.add(0, rows(torch.randn(2000, 256)), [2000], [[0]])
    descriptor = cache._file.fileno()
    assert Path(f"/proc/self/fd/{descriptor}").stat().st_size == 2000 * 1024
    assert list(tmp_path.iterdir()) == []
    cache.close()
    assert not any(
        str(tmp_path) in str(link.readlink())
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink() and link.exists()
    )
