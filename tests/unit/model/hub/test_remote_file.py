"""From a hub come the bytes of the wanted tensors, once, and nearly no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors import safe_open
from torch import Tensor

from sft_common.errors import ModelError
from sft_common.model.hub import remote_file, sparse_copy
from sft_common.model.hub.remote_file import HEAD
from tests.range_server import CHUNK, RangeServer
from tests.unit.model.hub.published import (
    FILE,
    KIB,
    assert_same,
    header_size,
    owned,
    remote,
    size_of,
    tensors_of,
)


def test_only_the_wanted_bytes_travel_and_only_once(
    hub: RangeServer, original: Path, copy: Path, tensors: dict[str, Tensor]
) -> None:
    names = owned([0, 2])
    file = remote(hub, copy, gap=0)
    fetched = file.fetch(names)
    assert fetched == hub.sent[FILE] <= size_of(tensors, names) + HEAD
    assert_same(copy, tensors, names)
    assert copy.stat().st_size == original.stat().st_size
    head = header_size(original)
    assert copy.read_bytes()[:head] == original.read_bytes()[:head]
    before = len(hub.requests)
    assert file.fetch(names) == remote(hub, copy).fetch(reversed(names)) == 0
    assert remote(hub, copy).tensors().keys() == tensors.keys()
    assert len(hub.requests) == before
    rest = sorted(set(tensors) - set(names))
    assert fetched + file.fetch(rest) == hub.sent[FILE] == original.stat().st_size
    assert copy.read_bytes() == original.read_bytes()


def test_what_was_not_fetched_takes_no_disk(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    names = owned([1])
    fetched = remote(hub, copy).fetch(names)
    allocated = copy.stat().st_blocks * 512
    assert fetched <= allocated <= fetched + 2 * 4096 * (len(names) + 1)
    assert allocated < copy.stat().st_size / 4
    assert_same(copy, tensors, names)
    with safe_open(copy, framework="pt") as opened:
        assert not opened.get_tensor("layer.3.weight").any()


@pytest.mark.parametrize(
    "names", [["layer.0.half"], ["layer.0.brain"], ["nothing"], ["scalar"], []]
)
def test_every_type_and_size_arrives(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor], names: list[str]
) -> None:
    fetched = remote(hub, copy).fetch(names)
    assert fetched <= HEAD + size_of(tensors, names)
    assert_same(copy, tensors, names)


def test_near_neighbours_come_in_one_request(hub: RangeServer, copy: Path, tmp_path: Path) -> None:
    names = ["layer.1.half", "layer.3.half"]
    places = remote(hub, copy).tensors()
    gap = places["layer.3.half"][0] - places["layer.1.half"][1]
    assert gap == size_of(tensors_of(), ["layer.2.half"])
    apart = remote(hub, copy, gap=gap - 1)
    before = len(hub.ranges)
    apart.fetch(names)
    assert len(hub.ranges) - before == 2
    hub.ranges.clear()
    together = remote(hub, tmp_path / "other", gap=gap)
    assert together.fetch(names) == HEAD + 3 * 64 * KIB
    assert len(hub.ranges) == 2  # head, body
    bridged = remote(hub, tmp_path / "bridged", gap=gap)
    bridged.fetch(["layer.2.half"])
    assert bridged.fetch(names) == 2 * 64 * KIB  # what is there is not fetched to bridge a gap


def test_of_a_matrix_the_first_rows_can_be_had_alone(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    names = ["layer.0.weight", "layer.3.half"]
    file = remote(hub, copy, gap=0)
    assert file.fetch(names, rows=0) == HEAD
    assert file.fetch(names, rows=8) == 8 * 256 * (4 + 2) == hub.sent[FILE] - HEAD
    with safe_open(copy, framework="pt") as opened:
        for name in names:
            assert torch.equal(opened.get_slice(name)[:8], tensors[name][:8])
    assert file.fetch(names, rows=8) == file.fetch(names, rows=0) == 0
    assert file.fetch(names) == size_of(tensors, names) - 8 * 256 * (4 + 2)
    assert_same(copy, tensors, names)
    assert file.fetch(names, rows=10_000) == 0


def test_a_broken_transfer_goes_on_where_it_stopped(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    hub.breaks = [10_000, HEAD, 300_001, 0, 77_777]
    names = ["embeddings.weight", *owned([3])]
    fetched = remote(hub, copy).fetch(names)
    assert not hub.breaks
    assert fetched == hub.sent[FILE] <= size_of(tensors, names) + HEAD + 2 * 64 * KIB
    assert_same(copy, tensors, names)


def test_what_came_before_giving_up_is_kept(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    hub.breaks = [HEAD, *[100_000] * 6]
    name = "embeddings.weight"
    with pytest.raises(ModelError, match=r"after 6 attempts .*what came is kept, try again"):
        remote(hub, copy).fetch([name])
    assert not hub.breaks
    already = hub.sent[FILE]
    assert already == HEAD + 600_000
    rest = remote(hub, copy).fetch([name])
    assert already + rest == hub.sent[FILE] <= size_of(tensors, [name]) + HEAD + 64 * KIB
    assert_same(copy, tensors, [name])


def test_progress_starts_the_count_of_attempts_anew(
    hub: RangeServer, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (remote_file, sparse_copy):
        monkeypatch.setattr(module, "RECORD_EVERY", 64 * KIB)
    hub.breaks = [HEAD, *[64 * KIB] * 12]
    assert remote(hub, copy).fetch(["embeddings.weight"]) == hub.sent[FILE]
    assert not hub.breaks


def test_a_server_that_falls_silent_counts_as_broken(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.stall_after = 20 * CHUNK
    monkeypatch.setattr(sparse_copy, "RECORD_EVERY", CHUNK)
    remote(hub, copy).fetch(["embeddings.weight"])
    assert hub.stalled.is_set()
    assert_same(copy, tensors, ["embeddings.weight"])
