"""Surgery changes nothing that it should not: equality with the stock models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sft_common.config import SplitSpec
from sft_common.errors import ConfigError, ModelError
from sft_common.model.families import FAMILIES, family_of
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1, Net2, edge_half
from tests.models import SIZES, save_tiny_model, tiny_config

BLOCKS, HIDDEN = SIZES["num_hidden_layers"], SIZES["hidden_size"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def pretrained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Pretrained:
    folder = save_tiny_model(tmp_path_factory.mktemp("family") / request.param, request.param)
    return Pretrained(folder, num_labels=2)


def halves(pretrained: Pretrained, split: SplitSpec) -> tuple[Net1, Net2]:
    net1 = pretrained.net1(split)
    net2, u = pretrained.net2(split, seed=3, device=CPU)
    pretrained.fill_net1(net1, split, u)
    return net1.eval(), net2.eval()


def padded_inputs() -> dict[str, Tensor]:
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]])
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, SIZES["vocab_size"], mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("split_layer", range(1, BLOCKS + 1))
@pytest.mark.parametrize(("cut", "rank"), [("identity", HIDDEN), ("none", 1)])
def test_logits_and_gradients_equal_the_stock_model(
    pretrained: Pretrained, cut: str, rank: int, split_layer: int
) -> None:
    """Rank full and residual kept reproduces the stock logits within 1e-5, and so its gradients."""
    net1, net2 = halves(pretrained, SplitSpec(cut=cut, split_layer=split_layer, rank=rank))
    whole = pretrained.whole(seed=3).eval()
    inputs = padded_inputs()
    stock = whole(**inputs).logits
    split = net2(net1(inputs), inputs["attention_mask"])
    assert stock.abs().max() > 1e-2
    torch.testing.assert_close(split, stock, rtol=0, atol=1e-5)

    stock.square().sum().backward()
    split.square().sum().backward()
    expected = dict(whole.named_parameters())
    compared = 0
    for name, parameter in [*net1.skeleton.named_parameters(), *net2.skeleton.named_parameters()]:
        if name in expected and expected[name].grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared >= len(expected) - 3


@pytest.mark.parametrize("split_layer", range(1, BLOCKS + 1))
def test_each_half_owns_its_parameters_and_no_others(
    pretrained: Pretrained, split_layer: int
) -> None:
    net1, net2 = halves(pretrained, SplitSpec(split_layer=split_layer, rank=4))
    mine = {name for name, _ in net1.skeleton.named_parameters()}
    theirs = {name for name, _ in net2.skeleton.named_parameters()}
    family = pretrained.family
    at = f"{family.backbone}.{family.blocks}.{split_layer - 1}"
    factors = {f"{at}.cut.u", f"{at}.{family.projection}.sigma", f"{at}.{family.projection}.v"}
    stock = {name for name, _ in pretrained.whole(seed=0).named_parameters()}
    assert mine.isdisjoint(theirs)
    assert mine | theirs == stock - {f"{at}.{family.projection}.weight"} | factors
    assert all(name.startswith(f"{family.backbone}.") for name in mine)


def test_the_sft_cut_drops_the_residual(pretrained: Pretrained) -> None:
    """With full rank and no residual the logits must differ from the stock ones."""
    net1, net2 = halves(pretrained, SplitSpec(split_layer=2, rank=HIDDEN))
    inputs = padded_inputs()
    stock = pretrained.whole(seed=3).eval()(**inputs).logits
    split = net2(net1(inputs), inputs["attention_mask"])
    assert (split - stock).abs().max() > 1e-2


def test_padding_rows_of_the_activation_do_not_matter(pretrained: Pretrained) -> None:
    """The wire drops them, so nothing may depend on them, bit for bit."""
    net1, net2 = halves(pretrained, SplitSpec(split_layer=2, rank=4))
    inputs = padded_inputs()
    mask = inputs["attention_mask"]
    activation = net1(inputs).detach().requires_grad_()
    changed = (activation * mask[..., None]).detach()
    logits = net2(activation, mask)
    assert not torch.equal(activation, changed)
    assert torch.equal(logits, net2(changed, mask))
    logits.square().sum().backward()
    assert activation.grad is not None
    assert activation.grad[mask == 0].eq(0).all()
    assert activation.grad[mask == 1].ne(0).any()


def test_an_unknown_family_is_refused_with_the_supported_ones(tmp_path: Path) -> None:
    config = tiny_config("gpt2")
    with pytest.raises(ModelError, match=r"'gpt2' is not supported; supported: bert, electra"):
        family_of(config)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (SplitSpec(split_layer=0), r"split layer 0 is outside 1\.\.4"),
        (SplitSpec(split_layer=5), r"split layer 5 is outside 1\.\.4"),
        (SplitSpec(split_layer=2, rank=0), r"rank 0 is outside 1\.\.32"),
        (SplitSpec(split_layer=2, rank=33), r"rank 33 is outside 1\.\.32"),
        (SplitSpec(cut="slice", split_layer=2), r"unknown cut 'slice'; choose one of: sft, none"),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(split: SplitSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        edge_half(tiny_config(), split)
