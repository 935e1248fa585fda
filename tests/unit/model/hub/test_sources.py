"""Of a published model the small files come at once, the tensors when they are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from safetensors.torch import load_file

from sft_common.model.loading import Pretrained
from sft_common.model.sources import find_published
from tests.hub import COMMIT
from tests.range_server import RangeServer
from tests.unit.model.hub.published import FILE, REPO, shard


@pytest.fixture(params=[False, True], ids=["single", "sharded"])
def published(request: pytest.FixtureRequest, original: Path, tiny_model: Path) -> Path:
    """The folder as it lies on the hub."""
    shutil.copytree(tiny_model, original.parent, dirs_exist_ok=True)
    if request.param:
        shard(original.parent, load_file(tiny_model / FILE))
    return original.parent


def test_tensors_are_left_to_whoever_reads_them(
    hub: RangeServer, published: Path, tiny_model: Path
) -> None:
    source = find_published(REPO)
    assert (source.name, source.revision) == (REPO, COMMIT)
    assert (source.folder / "tokenizer.json").is_file()
    assert not list(source.folder.glob("*.safetensors"))
    found = Pretrained(source.folder, num_labels=2, weights=source.weights).whole(seed=0)
    expected = Pretrained(tiny_model, num_labels=2).whole(seed=0).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())


def test_a_model_that_is_in_the_cache_whole_is_not_fetched_again(
    hub: RangeServer, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(snapshot_download(REPO))
    before = len(hub.ranges)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = find_published(REPO)
    assert (source.folder, source.weights) == (folder, None)
    Pretrained(source.folder, num_labels=2, weights=source.weights).whole(seed=0)
    assert len(hub.ranges) == before


def test_offline_a_model_is_read_as_far_as_it_was_fetched(
    hub: RangeServer, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_published(REPO)
    Pretrained(source.folder, num_labels=2, weights=source.weights).whole(seed=0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    again = find_published(REPO)
    Pretrained(again.folder, num_labels=2, weights=again.weights).whole(seed=0)
    assert again.weights is not None and len(hub.requests) == before
