"""Numbers reach the right parameters, whatever the checkpoint calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sft_common.config import BASIS_CUTS, CUTS, SplitSpec
from sft_common.errors import MismatchError, ModelError
from sft_common.model.identity import check_same
from sft_common.model.loading import Pretrained, set_edge_factor
from tests.models import save_tiny_model

SPLIT = SplitSpec(split_layer=3, rank=4)
CPU = torch.device("cpu")


def copy_model(source: Path, target: Path) -> dict[str, torch.Tensor]:
    """Copy a model folder without its weights; returns the weights."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    return tensors


def whole_state(folder: Path) -> dict[str, torch.Tensor]:
    return dict(Pretrained(folder, num_labels=2).whole(seed=0).state_dict())


def assert_same_state(left: Path, right: Path) -> None:
    expected = whole_state(right)
    for name, tensor in whole_state(left).items():
        assert torch.equal(tensor, expected[name]), name


def test_the_names_of_2018_are_understood(tiny_model: Path, tmp_path: Path) -> None:
    """bert-base-uncased on the hub calls the tensors of its norms gamma and beta."""
    folder = tmp_path / "old"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in copy_model(tiny_model, folder).items()
    }
    assert any("gamma" in name for name in old)
    save_file(old, folder / "model.safetensors")
    assert_same_state(folder, tiny_model)


def test_a_checkpoint_of_the_bare_backbone_gets_a_fresh_head(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bare"
    tensors = copy_model(tiny_model, folder)
    bare = {name.removeprefix("bert."): t for name, t in tensors.items() if "bert." in name}
    save_file(bare, folder / "model.safetensors")
    state, expected = whole_state(folder), whole_state(tiny_model)
    fresh = {name for name in state if not torch.equal(state[name], expected[name])}
    assert fresh == {"classifier.weight"}


def test_shards_are_read_through_their_index(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    tensors = copy_model(tiny_model, folder)
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert_same_state(folder, tiny_model)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(ModelError, match="names model-1.safetensors, which is not in"):
        Pretrained(folder, num_labels=2)


def test_the_fresh_head_depends_on_the_seed_and_not_on_the_half(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "headless"
    tensors = copy_model(tiny_model, folder)
    save_file(
        {name: t for name, t in tensors.items() if not name.startswith("classifier")},
        folder / "model.safetensors",
    )
    pretrained = Pretrained(folder, num_labels=2)

    def head(seed: int) -> torch.Tensor:
        return pretrained.whole(seed=seed).get_parameter("classifier.weight")

    net2, _ = pretrained.net2(SPLIT, seed=5, device=CPU)
    assert torch.equal(net2.skeleton.get_parameter("classifier.weight"), head(5))
    assert not torch.equal(head(5), head(6))


def test_a_body_tensor_that_is_missing_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "holes"
    tensors = copy_model(tiny_model, folder)
    for name in [name for name in tensors if "layer.1.attention.self.query" in name]:
        del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"no tensor .*query\.weight and 1 more"):
        Pretrained(folder, num_labels=2).net1(SPLIT)


def test_a_tensor_of_another_shape_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    tensors = copy_model(tiny_model, folder)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    tensors[name] = tensors[name][:16].contiguous()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"has shape \(16, 32\), the model needs \(32, 32\)"):
        whole_state(folder)


@pytest.mark.parametrize(
    ("leave", "message"),
    [
        ([], "has no config.json"),
        (["config.json"], "holds no weights: model.safetensors is missing"),
        (["config.json", "pytorch_model.bin"], "found: config.json, pytorch_model.bin"),
    ],
)
def test_a_folder_without_a_model_says_what_it_lacks(
    tiny_model: Path, tmp_path: Path, leave: list[str], message: str
) -> None:
    for name in leave:
        (tmp_path / name).write_bytes((tiny_model / "config.json").read_bytes())
    with pytest.raises(ModelError, match=message):
        Pretrained(tmp_path, num_labels=2)


def test_a_damaged_file_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    copy_model(tiny_model, folder)
    (folder / "model.safetensors").write_bytes(b"\x80\x04 this is a pickle, not safetensors")
    with pytest.raises(ModelError, match="cannot read"):
        Pretrained(folder, num_labels=2)


def test_digests_tell_models_apart(tiny_model: Path, tmp_path: Path) -> None:
    identity = Pretrained(tiny_model, num_labels=2).identity("m")
    check_same(identity, Pretrained(tiny_model, num_labels=2).identity("m"))
    other_shape = save_tiny_model(tmp_path / "shape", num_attention_heads=2)
    with pytest.raises(MismatchError, match="different configuration of model 'm'"):
        check_same(identity, Pretrained(other_shape, num_labels=2).identity("m"))
    tensors = copy_model(tiny_model, tmp_path / "tuned")
    for name in (
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.attention.self.query.weight",
        "bert.encoder.layer.3.output.dense.bias",
        "bert.encoder.layer.3.attention.output.LayerNorm.weight",
    ):
        changed = {key: tensor.clone() for key, tensor in tensors.items()}
        changed[name] += 1e-6
        save_file(changed, tmp_path / "tuned" / "model.safetensors")
        with pytest.raises(MismatchError, match="different weights of model 'm'"):
            check_same(identity, Pretrained(tmp_path / "tuned", num_labels=2).identity("m"))


def test_a_head_for_another_number_of_classes_is_replaced(tiny_model: Path) -> None:
    three = Pretrained(tiny_model, num_labels=3).whole(seed=0)
    assert three.get_parameter("classifier.weight").shape == (3, 32)
    again = Pretrained(tiny_model, num_labels=3).whole(seed=0)
    assert torch.equal(
        three.get_parameter("classifier.weight"), again.get_parameter("classifier.weight")
    )
    two = Pretrained(tiny_model, num_labels=2).whole(seed=0)
    name = "bert.pooler.dense.weight"
    assert torch.equal(three.get_parameter(name), two.get_parameter(name))


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": 5}, {"hidden_act": "no-such"}, {"hidden_size": "wide"}]
)
def test_a_configuration_that_describes_no_model_is_refused(
    tiny_model: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=r"config\.json"):
        Pretrained(folder, num_labels=2).net1(SPLIT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_checkpoint_is_trained_in_float32(
    tiny_model: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = tmp_path / "half"
    tensors = copy_model(tiny_model, folder)
    half = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save_file(half, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": str(dtype)[6:]}))
    pretrained = Pretrained(folder, num_labels=2)
    net1 = pretrained.net1(SPLIT)
    net2, u = pretrained.net2(SPLIT, seed=0, device=CPU)
    pretrained.fill_net1(net1)
    assert u is not None
    set_edge_factor(net1, u)
    for module in (net1, net2):
        assert {p.dtype for p in module.parameters()} == {torch.float32}
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(net1.skeleton.get_parameter(name), half[name].float())
    assert pretrained.identity("m").weights_digest


def test_dropout_reaches_every_dropout_layer(tiny_model: Path) -> None:
    model = Pretrained(tiny_model, num_labels=2, dropout=0.25).whole(seed=0)
    layers = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert layers and set(layers) == {0.25}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("asked", [None, 0.25])
def test_below_a_narrow_cut_there_is_no_dropout_unless_asked_for(
    tmp_path: Path, cut: str, asked: float | None
) -> None:
    own = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    pretrained = Pretrained(save_tiny_model(tmp_path / "m", **own), num_labels=2, dropout=asked)
    split = SplitSpec(cut=cut, split_layer=2, rank=4)
    usual = 0.2 if asked is None else asked
    spared = asked is None and cut not in ("none", "svd-residual")
    assert dropout_of(pretrained.net1(split)) == {0.0 if spared else usual}
    basis = (torch.zeros(32), torch.zeros(4, 32)) if cut in BASIS_CUTS else None
    assert dropout_of(pretrained.net2(split, seed=0, device=CPU, basis=basis)[0]) == {usual}


def dropout_of(module: torch.nn.Module) -> set[float]:
    """Return the probabilities of all dropout layers of a module."""
    return {m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)}
