"""Activations of a frozen edge in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sft_cloud.cache import EXAMPLE_BYTES, LABEL_BYTES, PART_BYTES, ActivationCache
from sft_common.errors import CapacityError, SnapshotError
from sft_common.snapshots import Snapshots
from sft_common.wire.codec import tensor_from_proto, tensor_to_proto


def rows(tensor: Tensor, encoding: str = "float32") -> bytes:
    return tensor_to_proto(tensor, encoding).data


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5),
    st.sampled_from(["float32", "int8", "int4"]),
)
def test_what_was_stored_comes_back_in_any_order(batches: list[list[int]], encoding: str) -> None:
    cache = ActivationCache(3, encoding, limit_bytes=10**6)
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
    with closing(ActivationCache(2, "float32", limit_bytes=2300)) as made:
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
    with closing(ActivationCache(2, "float32", limit_bytes=limit)) as cache:
        cache.add(0, rows(torch.ones(1, 2)), [1], [[0]])
        for tokens, labels, part in ((2, [0], 0), (1, [0, 0], 0), (1, [0], 1)):
            with pytest.raises(CapacityError):
                cache.add(part, rows(torch.ones(tokens, 2)), [tokens], [labels])
        cache.add(0, rows(torch.ones(1, 2)), [1], [[0]])
        assert cache.size_bytes == limit


def test_numbers_stay_numbers() -> None:
    with closing(ActivationCache(1, "float32", limit_bytes=9999, numbers=True)) as cache:
        cache.add(0, rows(torch.zeros(2, 1)), [1, 1], [[0.1], [-2.5]])
        assert cache.batch(0, [1, 0])[2] == [-2.5, 0.1]


def test_a_part_may_hold_examples_with_and_without_labels(cache: ActivationCache) -> None:
    cache.add(1, rows(torch.zeros(2, 2)), [1, 1], [])
    cache.add(1, rows(torch.zeros(2, 2)), [1, 1], [[3], [-100]])
    assert [cache.batch(1, [row])[2] for row in range(4)] == [[], [], [3], [-100]]


def test_a_file_without_a_name_leaves_nothing_however_the_process_ends(tmp_path: Path) -> None:
    with patch("tempfile.tempdir", str(tmp_path)):
        cache = ActivationCache(256, "float32", limit_bytes=10**7)
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


def test_a_file_with_a_name_goes_with_the_cache_and_its_folder_with_it(tmp_path: Path) -> None:
    path = tmp_path / "session" / "rows"
    path.parent.mkdir()
    cache = ActivationCache(2, "float32", limit_bytes=2300, path=path)
    cache.add(0, rows(torch.ones(2, 2)), [1, 1], [[0], [1]])
    assert path.stat().st_mode & 0o077 == 0  # examples are nobody else's business
    cache.release()
    assert path.stat().st_size == 16
    cache.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [False, True])
def test_what_was_sealed_is_the_same_in_another_process(tmp_path: Path, numbers: bool) -> None:
    path = tmp_path / "rows"
    limits: dict[str, Any] = {"limit_bytes": 9999, "numbers": numbers}
    cache = ActivationCache(2, "int8", **limits, path=path)
    sent = torch.randn(6, 2)
    cache.add(0, rows(sent[:3], "int8"), [2, 1], [[1], [-100]])
    cache.add(2, rows(sent[3:4], "int8"), [1], [])
    cache.add(0, rows(sent[4:], "int8"), [2], [[0.5, 2.5] if numbers else [3, 4]])
    Snapshots(tmp_path).write("index", cache.sealed())
    before = [cache.batch(part, [row]) for part, row in ((0, 2), (0, 0), (0, 1), (2, 0))]
    size = cache.size_bytes
    cache.release()

    index = Snapshots(tmp_path).read("index")
    cache = ActivationCache.unsealed(path, index)
    assert (cache.parts, cache.size_bytes) == ([0, 2], size)
    assert (list(cache.lengths(0)), list(cache.lengths(2))) == ([2, 1, 2], [1])
    after = [cache.batch(part, [row]) for part, row in ((0, 2), (0, 0), (0, 1), (2, 0))]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[0], new[0]) and old[1:] == new[1:]
    cache.close()


@pytest.mark.parametrize("damage", ["changed", "shorter", "longer", "missing"])
def test_a_file_that_is_not_what_was_sealed_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "rows"
    cache = ActivationCache(2, "float32", limit_bytes=9999, path=path)
    cache.add(0, rows(torch.ones(3, 2)), [3], [[1]])
    index = cache.sealed()
    cache.release()
    data = path.read_bytes()
    match damage:
        case "changed":
            path.write_bytes(data[:5] + b"\x01" + data[6:])
        case "shorter":
            path.write_bytes(data[:-1])
        case "longer":
            path.write_bytes(data + b"\0")
        case _:
            path.unlink()
    with pytest.raises(SnapshotError, match="are not those that were stored|cannot read"):
        ActivationCache.unsealed(path, index)


def test_a_disk_that_does_not_take_it_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match="does not take the examples: No such file"):
        ActivationCache(2, "float32", limit_bytes=9999, path=tmp_path / "no" / "rows")
    full = ActivationCache(2, "float32", limit_bytes=9999, path=Path("/dev/full"))
    with pytest.raises(CapacityError, match="does not take the examples: No space left"):
        full.add(0, rows(torch.ones(3, 2)), [3], [[1]])
    assert not full.parts
    full.release()
