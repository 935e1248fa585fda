"""The weights of a repository, in one file or in shards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sft_common.errors import ModelError
from sft_common.model.hub.remote_file import HEAD
from sft_common.model.hub.weights import HubWeights
from tests.hub import COMMIT
from tests.range_server import RangeServer
from tests.unit.model.hub.published import FILE, REPO, assert_same, owned, shard, size_of


def weights(hub: RangeServer) -> HubWeights:
    """Return the weights; the hub's own folder serves as the snapshot with the small files."""
    return HubWeights(REPO, COMMIT, hub.repositories[f"models/{REPO}"])


def test_a_repository_with_one_file(hub: RangeServer, tensors: dict[str, Tensor]) -> None:
    names = owned([0])
    hub_weights = weights(hub)
    files = hub_weights.file_of()
    assert files.keys() == tensors.keys()
    assert set(files.values()) == {
        Path(constants.HF_HUB_CACHE, "sft-parts/org--model", COMMIT, FILE)
    }
    assert hub.sent[FILE] == HEAD
    assert HEAD + hub_weights.fetch(names) == hub.sent[FILE]
    assert_same(files[names[0]], tensors, names)
    before = len(hub.requests)
    assert weights(hub).fetch(names) == 0
    assert len(hub.requests) == before


def test_a_repository_of_shards(
    hub: RangeServer, original: Path, tensors: dict[str, Tensor]
) -> None:
    weight_map = shard(original.parent, tensors)
    names = ["layer.1.weight", "layer.2.half", "embeddings.weight", "nothing"]
    hub_weights = weights(hub)
    assert {name: path.name for name, path in hub_weights.file_of().items()} == weight_map
    fetched = hub_weights.fetch(iter(names))
    touched = {weight_map[name] for name in names}
    sent = sum(count for file, count in hub.sent.items() if file.endswith(".safetensors"))
    assert fetched == sent <= size_of(tensors, names) + len(touched) * HEAD
    for name in names:
        file = hub_weights.file_of()[name]
        with safe_open(file, framework="pt") as opened:
            assert torch.equal(opened.get_tensor(name), tensors[name])
    before = len(hub.requests)
    assert weights(hub).fetch(names) == 0
    assert len(hub.requests) == before


def test_shards_that_are_not_wanted_are_not_touched(
    hub: RangeServer, original: Path, tensors: dict[str, Tensor]
) -> None:
    weight_map = shard(original.parent, tensors)
    weights(hub).fetch(["scalar"])
    assert {file for file, _ in hub.ranges} == {weight_map["scalar"]}


def test_the_login_goes_to_the_hub_and_not_to_its_cdn(
    hub: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    with pytest.raises(ModelError, match=r"HTTP 401, .*run 'hf auth login' or set HF_TOKEN"):
        weights(hub)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    weights(hub).fetch(["scalar"])
    assert hub.ranges and hub.logins
    assert not [path for path, _ in hub.logins if path.startswith("/cdn")]


@pytest.mark.parametrize("sharded", [False, True])
def test_offline_only_what_is_there_is_to_be_had(
    hub: RangeServer,
    original: Path,
    tensors: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    sharded: bool,
) -> None:
    if sharded:
        shard(original.parent, tensors)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="lacks tensors, and HF_HUB_OFFLINE is set; unset"):
        weights(hub).fetch(["scalar"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    weights(hub).fetch(["layer.0.weight", "scalar"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights(hub).fetch(["layer.0.weight", "scalar"]) == 0
    with pytest.raises(ModelError, match="lacks tensors, and HF_HUB_OFFLINE is set; unset"):
        weights(hub).fetch(["embeddings.weight"])


def test_a_repository_without_safetensors(hub: RangeServer, original: Path) -> None:
    original.rename(original.with_name("pytorch_model.bin"))
    with pytest.raises(ModelError, match=r"HTTP 404, .*has safetensors, or convert it with save_p"):
        weights(hub)


def test_a_repository_that_does_not_exist(hub: RangeServer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"/org/none/.* cannot be fetched: HTTP 404"):
        HubWeights("org/none", COMMIT, tmp_path)


def test_a_hub_that_cannot_be_reached(hub: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.url, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(ModelError, match="cannot be fetched after 6 attempts .*try again later"):
        weights(hub)


@pytest.mark.parametrize(
    "index",
    ["[]", "{", '{"weight_map": {"a": "../../outside.safetensors"}}', '{"weight_map": {"a": 3}}'],
)
def test_an_index_that_is_none_is_refused(hub: RangeServer, original: Path, index: str) -> None:
    original.unlink()
    (original.parent / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match="is not an index of safetensors"):
        weights(hub)


def test_an_index_that_names_a_tensor_its_shard_lacks(
    hub: RangeServer, original: Path, tensors: dict[str, Tensor]
) -> None:
    weight_map = shard(original.parent, tensors)
    index = {"weight_map": {**weight_map, "ghost": weight_map["scalar"]}}
    (original.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="has no tensor ghost"):
        weights(hub).fetch(["ghost"])
    with pytest.raises(ModelError, match="model 'org/model' has no tensor phantom"):
        weights(hub).fetch(["phantom"])


def test_a_real_model_is_read_as_from_the_whole_file(
    hub: RangeServer, original: Path, tiny_model: Path
) -> None:
    original.write_bytes((tiny_model / FILE).read_bytes())
    whole = load_file(tiny_model / FILE)
    hub_weights = weights(hub)
    hub_weights.fetch(whole)
    copied = load_file(next(iter(hub_weights.file_of().values())))
    assert copied.keys() == whole.keys()
    assert all(torch.equal(copied[name], whole[name]) for name in whole)
