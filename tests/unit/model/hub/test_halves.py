"""A half of a model on the hub has the numbers of the folder's, and only its own bytes come."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sft_common.config import SplitSpec
from sft_common.errors import MismatchError
from sft_common.model.hub.remote_file import HEAD
from sft_common.model.hub.weights import HubWeights
from sft_common.model.index import SINGLE
from sft_common.model.loading import Pretrained
from tests.hub import COMMIT
from tests.models import save_tiny_model
from tests.range_server import RangeServer
from tests.unit.model.hub.published import FILE, REPO, shard

SPLIT = SplitSpec(split_layer=2, rank=4)
CPU = torch.device("cpu")
SIZES: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 768}
"""Matrices of more than the gap that is bridged between two wanted tensors."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), **SIZES)


@pytest.fixture(params=[False, True], ids=["single", "sharded"])
def published(
    request: pytest.FixtureRequest, hub: RangeServer, original: Path, folder: Path
) -> Path:
    """The folder as it lies on the hub."""
    shutil.copytree(folder, original.parent, dirs_exist_ok=True)
    if request.param:
        shard(original.parent, load_file(folder / FILE))
    return original.parent


def from_hub(published: Path, num_labels: int = 2) -> Pretrained:
    weights = HubWeights(REPO, COMMIT, published)
    return Pretrained(published, num_labels=num_labels, weights=weights)


def sent(hub: RangeServer) -> int:
    return sum(hub.sent.values())


def size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() * 4 for parameter in parameters)


def assert_equal(found: nn.Module, expected: nn.Module) -> None:
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())


def test_net1(hub: RangeServer, published: Path, folder: Path) -> None:
    pretrained, stock = from_hub(published), Pretrained(folder, num_labels=2)
    net1, expected = pretrained.net1(SPLIT), stock.net1(SPLIT)
    assert sent(hub) <= HEAD
    pretrained.fill_net1(net1)
    stock.fill_net1(expected)
    assert_equal(net1, expected)
    files = len(list(published.glob("*.safetensors")))
    assert sent(hub) <= size(net1.parameters()) + 2 * files * HEAD


def test_net2(hub: RangeServer, published: Path, folder: Path) -> None:
    net2, u = from_hub(published).net2(SPLIT, seed=0, device=CPU)
    expected, u_expected = Pretrained(folder, num_labels=2).net2(SPLIT, seed=0, device=CPU)
    assert_equal(net2, expected)
    assert u is not None and u_expected is not None and torch.equal(u, u_expected)
    split_weight = 192 * 768 * 4
    files = len(list(published.glob("*.safetensors")))
    assert sent(hub) <= size(net2.parameters()) + split_weight + 2 * files * HEAD


def test_a_half_comes_in_few_requests(hub: RangeServer, original: Path, folder: Path) -> None:
    shutil.copytree(folder, original.parent, dirs_exist_ok=True)
    from_hub(original.parent).net2(SPLIT, seed=0, device=CPU)
    assert len(hub.ranges) == 2  # header; all behind net1


def test_the_whole_model(hub: RangeServer, published: Path, folder: Path) -> None:
    whole = from_hub(published).whole(seed=0)
    assert_equal(whole, Pretrained(folder, num_labels=2).whole(seed=0))
    before = sent(hub)
    assert_equal(from_hub(published).whole(seed=0), whole)
    assert sent(hub) == before


def test_what_was_not_fetched_is_never_read_as_zeros(published: Path, folder: Path) -> None:
    checkpoint = from_hub(published).checkpoint
    for name, tensor in load_file(folder / FILE).items():
        assert checkpoint.shape(name) == tuple(tensor.shape)
        assert torch.equal(
            checkpoint.read(name, rows=3), tensor[:3] if tensor.dim() > 1 else tensor
        )
        assert torch.equal(checkpoint.read(name), tensor)


def test_a_head_for_other_classes_is_not_fetched(
    published: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    fetch = HubWeights.fetch

    def spy(self: HubWeights, names: Iterable[str], *, rows: int | None = None) -> int:
        names = list(names)
        asked.update(names if rows is None else ())
        return fetch(self, names, rows=rows)

    monkeypatch.setattr(HubWeights, "fetch", spy)
    from_hub(published, num_labels=3).whole(seed=0)
    heads = {"classifier.weight", "classifier.bias"}
    assert load_file(folder / FILE).keys() - asked == heads


def test_a_digest_means_the_same_for_a_folder_and_for_the_hub(
    hub: RangeServer, published: Path, folder: Path
) -> None:
    edge = from_hub(published).identity("m", COMMIT)
    files = len(list(published.glob("*.safetensors")))
    assert sent(hub) <= 5 * HEAD * files < (folder / SINGLE).stat().st_size / 2
    stock = Pretrained(folder, num_labels=2)
    assert edge.weights_digest == stock.identity("m").weights_digest
    stock.check_same(edge)
    from_hub(published).check_same(stock.identity("m"), COMMIT)


def test_one_commit_says_which_weights_are_meant(
    hub: RangeServer, published: Path, folder: Path, tmp_path: Path
) -> None:
    edge = Pretrained(folder, num_labels=2).identity("m", COMMIT)
    from_hub(published).check_same(edge, COMMIT)
    assert sent(hub) <= HEAD  # the header of a single file
    shutil.copytree(folder, tmp_path / "tuned")
    changed = {name: tensor + 1e-6 for name, tensor in load_file(folder / FILE).items()}
    save_file(changed, tmp_path / "tuned" / FILE)
    tuned = Pretrained(tmp_path / "tuned", num_labels=2)
    with pytest.raises(MismatchError, match="different weights"):
        tuned.check_same(edge)
    with pytest.raises(MismatchError, match="different weights"):
        from_hub(published).check_same(tuned.identity("m"), COMMIT)
    with pytest.raises(MismatchError, match="different weights"):
        from_hub(published).check_same(tuned.identity("m", COMMIT[::-1]), COMMIT)
