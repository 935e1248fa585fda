"""Surgery changes nothing that it should not: equality with the stock models."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import T5Config

from sft_common.config import CUTS, HEADS, SplitSpec
from sft_common.errors import ConfigError, ModelError
from sft_common.model.cuts import principal_basis
from sft_common.model.families import FAMILIES, family_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained, set_basis, set_edge_factor
from sft_common.model.partition import Net1, Net2, edge_half
from sft_common.wire.packing import pack, unpack
from tests.models import SIZES, save_tiny_model, tiny_config

BLOCKS, HIDDEN = SIZES["num_hidden_layers"], SIZES["hidden_size"]
CPU = torch.device("cpu")
GATED = sorted({"llama", "mistral", "qwen2", "qwen3"} & set(FAMILIES))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(family, head) -> a loaded small model."""
    place = tmp_path_factory.mktemp("families")

    @cache
    def load(family: str, head: str) -> Pretrained:
        folder = save_tiny_model(place / f"{family}-{head}", family, head=head)
        labels = {"regression": 1, "causal-lm": SIZES["vocab_size"]}.get(head, 2)
        return Pretrained(folder, num_labels=labels, head=head)

    return load


def home(family: str) -> str:
    return "image-classification" if family == "vit" else "sequence-classification"


@pytest.fixture(params=sorted(FAMILIES))
def pretrained(request: pytest.FixtureRequest, saved: Any) -> Pretrained:
    loaded: Pretrained = saved(request.param, home(request.param))
    return loaded


def calibrated(net1: Net1, inputs: dict[str, Tensor], rank: int) -> tuple[Tensor, Tensor]:
    """Set the edge's share of a basis and return the cloud's."""
    seen: list[Tensor] = []
    hook = net1.block.cut.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        net1(inputs)
    hook.remove()
    basis = principal_basis(seen[0].flatten(0, 1), rank)
    set_basis(net1, basis)
    return basis.mean, basis.decoder


def halves(
    pretrained: Pretrained, split: SplitSpec, inputs: dict[str, Tensor]
) -> tuple[Net1, Net2]:
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1)
    net1.eval()
    basis = calibrated(net1, inputs, split.rank) if "stream" in split.cut else None
    net2, u = pretrained.net2(split, seed=3, device=CPU, basis=basis)
    if u is not None:
        set_edge_factor(net1, u)
    return net1, net2.eval()


def padded_inputs(family: str, side: str = "right") -> tuple[dict[str, Tensor], Tensor]:
    """Return inputs of three examples, two of them padded, and their mask."""
    generator = torch.Generator().manual_seed(1)
    if family == "vit":
        pixels = torch.randn(3, 3, 16, 16, generator=generator)
        return {"pixel_values": pixels}, torch.ones(3, 17, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]])
    if side == "left":
        mask = mask.flip(1)
    ids = torch.randint(5, SIZES["vocab_size"], mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask}, mask


def stock_logits(whole: Any, inputs: dict[str, Tensor]) -> Tensor:
    output = whole(**inputs)
    if hasattr(output, "start_logits"):
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    logits: Tensor = output.logits
    return logits


EXACT = [("none", 1), ("svd-residual", HIDDEN), ("stream", HIDDEN), ("stream-end", HIDDEN)]
"""Cuts that lose nothing at these ranks."""


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("split_layer", range(1, BLOCKS + 1))
@pytest.mark.parametrize(("cut", "rank"), EXACT)
def test_logits_and_gradients_equal_the_stock_model(
    pretrained: Pretrained, cut: str, rank: int, split_layer: int, side: str
) -> None:
    """With nothing cut away the halves give the stock logits within 1e-5, and so gradients."""
    inputs, mask = padded_inputs(pretrained.config.model_type, side)
    split_spec = SplitSpec(cut=cut, split_layer=split_layer, rank=rank)
    net1, net2 = halves(pretrained, split_spec, inputs)
    whole: Any = pretrained.whole(seed=3).eval()
    stock = stock_logits(whole, inputs)
    split = net2(net1(inputs), mask)
    assert stock.abs().max() > 1e-2
    torch.testing.assert_close(split, stock, rtol=0, atol=1e-5)

    (stock - stock.detach().mean() - 1).square().mean().backward()
    (split - split.detach().mean() - 1).square().mean().backward()
    expected = {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}
    summed: dict[str, Tensor] = {}
    for name, parameter in [*net1.skeleton.named_parameters(), *net2.skeleton.named_parameters()]:
        if name in expected and parameter.grad is not None:
            summed[name] = summed.get(name, torch.zeros(())) + parameter.grad
    factored = 0 if cut != "svd-residual" else len(pretrained.family.block.projections)
    assert len(summed) == len(expected) - factored
    for name, gradient in summed.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_of_every_family(saved: Any, pretrained: Pretrained, head: str) -> None:
    """Each head that a family has gives the stock logits through the cut; others are refused."""
    family = pretrained.config.model_type
    has = (head == "image-classification") == (family == "vit")
    if head == "causal-lm":
        has = pretrained.family.causal
    if not has:
        with pytest.raises(ModelError, match=f"'{family}' have no {head} head"):
            Pretrained(pretrained.checkpoint.folder, num_labels=2, head=head)
        return
    loaded = saved(family, head)
    inputs, mask = padded_inputs(family)
    net1, net2 = halves(loaded, SplitSpec(cut="none", split_layer=2), inputs)
    whole = loaded.whole(seed=3).eval()
    with torch.no_grad():
        split, stock = net2(net1(inputs), mask), stock_logits(whole, inputs)
    assert split.shape == stock.shape and stock.std() > 1e-3
    torch.testing.assert_close(split, stock, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", sorted(name for name in FAMILIES if FAMILIES[name].causal))
def test_left_padding_need_not_travel(saved: Any, family: str) -> None:
    """The cloud pads on its own side: above the cut only distances between tokens count."""
    pretrained = saved(family, "sequence-classification")
    inputs, mask = padded_inputs(family, "left")
    net1, net2 = halves(pretrained, SplitSpec(cut="none", split_layer=2), inputs)
    lengths = mask.sum(dim=1).tolist()
    with torch.no_grad():
        arrived = unpack(pack(net1(inputs), mask), lengths)
        logits = net2(arrived, mask.flip(1))
        stock = stock_logits(pretrained.whole(seed=3).eval(), inputs)
    torch.testing.assert_close(logits, stock, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cut", ["stream", "stream-end"])
def test_a_deeper_decoder_starts_as_the_linear_one_and_learns(
    pretrained: Pretrained, cut: str
) -> None:
    inputs, mask = padded_inputs(pretrained.config.model_type)
    linear = SplitSpec(cut=cut, split_layer=2, rank=5)
    deep = dataclasses.replace(linear, decoder_layers=2)
    found = []
    for split in (linear, deep):
        net1, net2 = halves(pretrained, split, inputs)
        found.append(net2(net1(inputs), mask))
    assert torch.equal(*found)
    layers = net2.skeleton.get_submodule(net2.block_name).cut.layers
    found[1].square().mean().backward()
    assert len(layers) == 2
    for layer in layers:
        assert layer.contract.weight.grad.abs().max() > 0
        assert layer.expand.weight.std() > 0
        assert torch.equal(layer.norm.weight, torch.ones(HIDDEN))
    assert not torch.equal(layers[0].expand.weight, layers[1].expand.weight)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("split_layer", [1, BLOCKS])
def test_each_half_owns_its_parameters_and_no_others(
    pretrained: Pretrained, split_layer: int, cut: str
) -> None:
    inputs, _ = padded_inputs(pretrained.config.model_type)
    split = SplitSpec(cut=cut, split_layer=split_layer, rank=4)
    net1, net2 = halves(pretrained, split, inputs)
    mine = {name for name, _ in net1.skeleton.named_parameters()}
    theirs = {name for name, _ in net2.skeleton.named_parameters()}
    family, layout = pretrained.family, pretrained.family.block
    backbone = net1.skeleton.base_model_prefix
    at = f"{backbone}.{family.blocks}.{split_layer - 1}"
    stock = {name for name, _ in pretrained.whole(seed=0).named_parameters()}
    tables = tuple(f"{backbone}.{module}." for module in family.shared)
    shared = {name for name in stock if tables and name.startswith(tables)}
    assert mine & theirs == shared
    for half in (net1, net2):
        assert {n for n, p in half.skeleton.named_parameters() if not p.requires_grad} == shared
    factors = {"sigma", "v", "u"}, {"encoder", "offset", "decoder", "mean"}
    added = {f"{at}.cut.{f}" for f in factors["stream" in cut]} if cut != "none" else set()
    split_layers = {"sft-output": (layout.contraction,), "none": (), "stream": ()}.get(
        cut, () if cut == "stream-end" else layout.projections
    )
    gone = {f"{at}.{path}.weight" for path in split_layers}
    assert mine | theirs == stock - gone | added
    assert all(name.startswith(f"{backbone}.") for name in mine)
    blocks = f"{backbone}.{family.blocks}."
    above = tuple(f"{blocks}{index}." for index in range(split_layer, BLOCKS))
    below = tuple(f"{blocks}{index}." for index in range(split_layer - 1))
    assert not any(name.startswith(above) for name in mine)
    assert not below or not any(name.startswith(below) for name in theirs)


class Without(torch.nn.Module):
    """A module of a stock block with the stream taken away from what it gives."""

    def __init__(self, inner: torch.nn.Module, stream: list[Tensor]) -> None:
        super().__init__()
        self.inner, self._stream = inner, stream

    def forward(self, value: Tensor) -> Tensor:
        output: Tensor = self.inner(value)
        return output - (self._stream[-1] if self._stream else value)


def drop_residual_by_hand(whole: Any, family: str, block: int) -> None:
    """Remove the residual around the feed-forward layer of a stock block, in its own terms."""
    stream: list[Tensor] = []
    match family:
        case "bert":
            layer = whole.bert.encoder.layer[block]
            output = layer.output
            layer.feed_forward_chunk = lambda h: output.LayerNorm(
                output.dropout(output.dense(layer.intermediate(h)))
            )
        case "distilbert":
            layer = whole.distilbert.transformer.layer[block]
            layer.ffn = Without(layer.ffn, stream)
        case "gpt2" | "llama" | "vit":
            path, norm = {
                "gpt2": ("transformer.h", "ln_2"),
                "llama": ("model.layers", "post_attention_layernorm"),
                "vit": ("vit.layers", "layernorm_after"),
            }[family]
            layer = whole.get_submodule(path)[block]
            layer.get_submodule(norm).register_forward_pre_hook(
                lambda _, given: stream.append(given[0])
            )
            layer.mlp = Without(layer.mlp, stream)


@pytest.mark.parametrize("cut", ["sft", "sft-output"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "vit"])
def test_the_sft_cuts_are_the_stock_block_without_its_residual(
    saved: Any, family: str, cut: str
) -> None:
    """At full rank, against stock blocks whose residual is taken away by hand."""
    pretrained = saved(family, home(family))
    inputs, mask = padded_inputs(family)
    net1, net2 = halves(pretrained, SplitSpec(cut=cut, split_layer=2, rank=HIDDEN), inputs)
    whole: Any = pretrained.whole(seed=3).eval()
    with torch.no_grad():
        with_residual = stock_logits(whole, inputs)
        drop_residual_by_hand(whole, family, block=1)
        expected = stock_logits(whole, inputs)
        assert (with_residual - expected).abs().max() > 1e-2
        torch.testing.assert_close(net2(net1(inputs), mask), expected, rtol=0, atol=1e-5)


def test_the_whole_is_what_transformers_loads(pretrained: Pretrained) -> None:
    """So that "stock" in these tests means stock, and not this project's own reading of a file."""
    inputs, _ = padded_inputs(pretrained.config.model_type)
    auto = getattr(transformers, HEAD_TABLE[pretrained.head].auto_class)
    stock = auto.from_pretrained(pretrained.checkpoint.folder, num_labels=2).eval()
    stock.config.pad_token_id = pretrained.padding
    with torch.no_grad():
        expected = stock_logits(stock, inputs)
        assert torch.equal(stock_logits(pretrained.whole(seed=0).eval(), inputs), expected)


def test_svd_residual_keeps_and_sends_the_stream(pretrained: Pretrained) -> None:
    inputs, mask = padded_inputs(pretrained.config.model_type)
    whole_stream, _ = halves(pretrained, SplitSpec(cut="none", split_layer=2), inputs)
    net1, _ = halves(pretrained, SplitSpec(cut="svd-residual", split_layer=2, rank=4), inputs)
    with torch.no_grad():
        activation = net1(inputs)
        assert activation.shape == (*mask.shape, 4 + HIDDEN)
        torch.testing.assert_close(activation[..., 4:], whole_stream(inputs))


@pytest.mark.parametrize("cut", ["stream", "stream-end"])
def test_a_basis_whitens_its_channels(pretrained: Pretrained, cut: str) -> None:
    inputs, _ = padded_inputs(pretrained.config.model_type)
    net1, _ = halves(pretrained, SplitSpec(cut=cut, split_layer=2, rank=4), inputs)
    with torch.no_grad():
        code = net1(inputs).flatten(0, 1)
    torch.testing.assert_close(code.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cov(code.T), torch.eye(4), rtol=0, atol=1e-3)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"vit"}))
def test_padding_rows_of_the_activation_do_not_matter(saved: Any, family: str) -> None:
    """The wire drops them, so nothing may depend on them, bit for bit."""
    pretrained = saved(family, "sequence-classification")
    inputs, mask = padded_inputs(family)
    net1, net2 = halves(pretrained, SplitSpec(split_layer=2, rank=4), inputs)
    activation = net1(inputs).detach().requires_grad_()
    changed = (activation * mask[..., None]).detach()
    logits = net2(activation, mask)
    assert not torch.equal(activation, changed)
    assert torch.equal(logits, net2(changed, mask))
    logits.square().sum().backward()
    assert activation.grad is not None
    assert activation.grad[mask == 0].eq(0).all()
    assert activation.grad[mask == 1].ne(0).any()


def test_the_words_table_is_what_input_ids_are_looked_up_in(pretrained: Pretrained) -> None:
    family = pretrained.config.model_type
    inputs, _ = padded_inputs(family)
    net1, _ = halves(pretrained, SplitSpec(split_layer=2, rank=4), inputs)
    table = net1.words
    if family == "vit":
        assert table is None
        return
    assert table is not None
    asked: list[Tensor] = []
    table.register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    net1(inputs)
    (ids,) = asked
    assert torch.equal(ids, inputs["input_ids"])


def test_gated_layers_are_factored_as_one(saved: Any) -> None:
    """One activation of rank R feeds both the gate and the upward projection."""
    pretrained = saved("llama", "sequence-classification")
    net2, u = pretrained.net2(SplitSpec(split_layer=2, rank=HIDDEN), seed=0, device=CPU)
    block = net2.skeleton.model.layers[1]
    folder = pretrained.checkpoint
    stacked = torch.cat(
        [folder.read(f"model.layers.1.mlp.{name}_proj.weight") for name in ("gate", "up")]
    )
    assert u is not None
    torch.testing.assert_close(u @ block.cut.sigma @ block.cut.v, stacked.T, rtol=0, atol=1e-5)


def test_wrong_cuts_are_refused() -> None:
    config = tiny_config()
    for split, words in (
        (SplitSpec(split_layer=0), "split layer 0 is outside 1..4"),
        (SplitSpec(split_layer=5), "split layer 5 is outside 1..4"),
        (SplitSpec(split_layer=1, rank=0), "rank 0 is outside 1..32"),
        (SplitSpec(split_layer=1, rank=33), "rank 33 is outside 1..32"),
        (SplitSpec(cut="svd", split_layer=1), "unknown cut 'svd'"),
        (
            SplitSpec(cut="sft", split_layer=1, decoder_layers=1),
            "1 decoder layers .* 0..0 of .*sft",
        ),
        (SplitSpec(cut="stream", split_layer=1, decoder_layers=17), "17 decoder layers .* 0..16"),
    ):
        with pytest.raises(ConfigError, match=words):
            edge_half(config, split, "sequence-classification")


def test_an_unknown_family_is_named_with_the_supported_ones() -> None:
    with pytest.raises(ModelError, match=r"'t5' is not supported; supported: bert, .*vit"):
        family_of(T5Config())


def test_a_variant_that_cannot_be_cut_says_why() -> None:
    with pytest.raises(ModelError, match="conv_kernel_size"):
        family_of(tiny_config("deberta-v2", conv_kernel_size=3))


def test_half_precision_files_are_trained_in_float32(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "half", dtype="bfloat16")
    net1 = Pretrained(folder, num_labels=2).net1(SplitSpec(split_layer=2))
    assert {p.dtype for p in net1.parameters()} == {torch.float32}
