"""A model in three parts: equal to the stock model, with soft prompts and without."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sft_common.config import CUTS, TAIL_CUTS, PartsSpec, SplitSpec
from sft_common.errors import ConfigError, ModelError
from sft_common.model.calibration import calibrate
from sft_common.model.codes import Code, code_of
from sft_common.model.cuts import CUT_TABLE, Basis
from sft_common.model.families import FAMILIES
from sft_common.model.loading import Pretrained
from sft_common.model.parting import CPU, NO_CODE, Parting
from sft_common.model.prompts import mask_with_prompts
from tests.models import SIZES, save_tiny_model

BLOCKS, HIDDEN = SIZES["num_hidden_layers"], SIZES["hidden_size"]
PROMPTED = sorted(name for name in FAMILIES if FAMILIES[name].takes_prompts)
LENGTHS = [7, 4, 5]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(family, head) -> a loaded small model."""
    place = tmp_path_factory.mktemp("parts")

    @cache
    def load(family: str, head: str = "") -> Pretrained:
        image = "image-classification" if family == "vit" else "sequence-classification"
        folder = save_tiny_model(place / f"{family}-{head}", family, head=head or image)
        return Pretrained(folder, num_labels=2, head=head or image)

    return load


def inputs_of(family: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if family == "vit":
        return {"pixel_values": torch.randn(3, 3, 16, 16, generator=generator)}
    mask = (torch.arange(7)[None] < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(5, SIZES["vocab_size"], mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask}


def spec_of(first: str = "none", second: str = "none-end", **more: Any) -> PartsSpec:
    below, above = more.pop("layers", (2, BLOCKS))
    return PartsSpec(
        first=SplitSpec(cut=first, split_layer=below, rank=6),
        second=SplitSpec(cut=second, split_layer=above, rank=6),
        **more,
    )


def basis_of(pretrained: Pretrained, split: SplitSpec) -> Basis | None:
    """Find a basis as an edge would that has all below the cut."""
    if CUT_TABLE[split.cut].code != "basis":
        return None
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1)
    inputs = inputs_of(pretrained.config.model_type)
    mask = inputs.get("attention_mask", torch.ones(3, 17))
    return calibrate(
        net1,
        [(inputs, mask)] * 4,
        rank=split.rank,
        hidden=HIDDEN,
        balanced=False,
        device=CPU,
        source="the test",
    )


def codes_of(pretrained: Pretrained, spec: PartsSpec) -> Code:
    first, second = (
        code_of(pretrained, split, basis_of(pretrained, split))
        for split in (spec.first, spec.second)
    )
    return first | second


def chain(pretrained: Pretrained, spec: PartsSpec, *, seed: int = 3) -> Any:
    """Return all three parts in one process, without dropout."""
    parting = Parting(pretrained, spec, codes_of(pretrained, spec))
    return parting.parts(seed=seed, body=parting.body()).eval()


def parameters_of(parts: Any) -> dict[str, Tensor]:
    """Return every parameter by stock name, that of each part which owns it."""
    halves = parts.head, parts.body, parts.tail
    return {n: p for half in halves for n, p in half.skeleton.named_parameters()}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(
    ("layers", "second"), [((1, 2), "none"), ((2, BLOCKS), "none-end"), ((1, 3), "none-end")]
)
def test_without_prompts_it_is_the_stock_model(
    saved: Any, family: str, layers: tuple[int, int], second: str
) -> None:
    """Logits and every gradient, within 1e-6."""
    pretrained, inputs = saved(family), inputs_of(family)
    parts = chain(pretrained, spec_of(second=second, layers=layers))
    whole: Any = pretrained.whole(seed=3).eval()
    mine = parameters_of(parts)
    for parameter in mine.values():
        parameter.requires_grad_()
    stock, logits = whole(**inputs).logits, parts(inputs)
    assert stock.abs().max() > 1e-2
    torch.testing.assert_close(logits, stock, rtol=0, atol=1e-6)
    stock.square().mean().backward()
    logits.square().mean().backward()
    expected = {n: p.grad for n, p in whole.named_parameters() if p.grad is not None}
    shared = tuple(f"{whole.base_model_prefix}.{path}." for path in pretrained.family.shared)
    for name, gradient in expected.items():
        if not (shared and name.startswith(shared)):
            found = mine[name].grad
            assert found is not None, name
            torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-6, msg=name)


def reference(pretrained: Pretrained, inputs: dict[str, Tensor], prompts: Tensor) -> Any:
    """Return a stock model whose blocks see prompts, and the logits it then gives.

    Prompts go in where the first block is called, with a mask written out by hand.
    """
    whole: Any = pretrained.whole(seed=3).eval()
    family, k = pretrained.config.model_type, len(prompts)
    path = {"vit": "vit.layers", "distilbert": "distilbert.transformer.layer"}
    first = whole.get_submodule(path.get(family, f"{family}.encoder.layer"))[0]
    lengths = [n + k for n in ([17] * 3 if family == "vit" else LENGTHS)]
    mask = torch.zeros(3, 1, max(lengths), max(lengths))
    for example, length in enumerate(lengths):
        mask[example, :, :, length:] = torch.finfo(torch.float32).min

    def insert(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = torch.stack([torch.cat([one[:1], prompts, one[1:]]) for one in args[0]])
        return (hidden, mask, *args[2:])

    first.register_forward_pre_hook(insert)
    for block in whole.get_submodule(path.get(family, f"{family}.encoder.layer"))[1:]:
        block.register_forward_pre_hook(lambda _, args: (args[0], mask, *args[2:]))
    return whole, whole(**inputs).logits


@pytest.mark.parametrize("family", PROMPTED)
@pytest.mark.parametrize("first_row", [True, False])
def test_with_prompts_it_is_a_stock_model_that_is_given_them_by_hand(
    saved: Any, family: str, first_row: bool
) -> None:
    pretrained, inputs = saved(family), inputs_of(family)
    parts = chain(pretrained, spec_of(prompts=5, first_row=first_row))
    prompts = parts.head.prompts
    assert prompts.shape == (5, HIDDEN) and 0.08 < prompts.abs().max() <= 0.1
    given = prompts.detach().clone().requires_grad_()
    whole, stock = reference(pretrained, inputs, given)
    plain = chain(pretrained, spec_of())(inputs)
    logits = parts(inputs)
    assert (plain - stock).abs().max() > 1e-4
    torch.testing.assert_close(logits, stock, rtol=0, atol=1e-6)
    stock.square().mean().backward()
    logits.square().mean().backward()
    assert given.grad is not None and prompts.grad is not None
    assert given.grad.abs().min(dim=1).values.max() > 0
    torch.testing.assert_close(prompts.grad, given.grad, rtol=1e-5, atol=1e-6)
    expected = {n: p.grad for n, p in whole.named_parameters()}
    trained = parts.trained()
    assert trained.pop("prompts") is prompts
    assert set(trained) < set(expected)
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_sequences_may_be_longer_than_the_model_by_the_prompts(saved: Any) -> None:
    ids = torch.randint(5, 60, (2, SIZES["max_position_embeddings"]))
    parts = chain(saved("bert"), spec_of(prompts=3))
    assert parts({"input_ids": ids}).shape == (2, 2)


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize(
    ("first", "second"),
    [*((cut, "none-end") for cut in CUTS), *(("stream", cut) for cut in TAIL_CUTS[:-1])],
)
def test_every_cut_in_both_places(saved: Any, family: str, first: str, second: str) -> None:
    """Split and local pass; what travels has the widths of the wire; prompts get a gradient."""
    pretrained, inputs = saved(family), inputs_of(family)
    spec = spec_of(first, second, prompts=2)
    widths = [
        {"none": HIDDEN, "none-end": HIDDEN, "svd-residual": 6 + HIDDEN}.get(c, 6)
        for c in (first, second)
    ]
    for first_row in (True, False):
        parts = chain(pretrained, replace(spec, first_row=first_row))
        activation = parts.head(inputs)
        length = activation.shape[1]
        assert activation.shape == (3, (17 if family == "vit" else 7) + 2, widths[0])
        mask = torch.ones(3, length, dtype=torch.long)
        rows = parts.body(activation, mask)
        assert rows.shape == ((3, widths[1]) if first_row else (3, length, widths[1]))
        assert parts.bridge(parts.head.stream(inputs)).shape == (3, length, widths[1])
        for call in (parts, parts.local):
            parts.zero_grad()
            logits = call(inputs)
            assert logits.shape == (3, 2) and logits.isfinite().all()
            logits.square().mean().backward()
            assert parts.head.prompts.grad is not None
            assert parts.head.prompts.grad.abs().sum(dim=1).min() > 0
        frozen = [*parts.head.skeleton.parameters(), *parts.bridge.parameters()]
        assert not any(p.requires_grad for p in frozen)
        assert not any(p.requires_grad for p in parts.body.parameters())


@pytest.mark.parametrize("second", TAIL_CUTS)
@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_first_row_alone_gives_what_all_rows_give(saved: Any, family: str, second: str) -> None:
    pretrained, inputs = saved(family), inputs_of(family)
    found = []
    for first_row in (True, False):
        parts = chain(pretrained, spec_of(second=second, prompts=3, first_row=first_row))
        both = parts(inputs), parts.local(inputs)
        (both[0] - both[1]).square().mean().backward()
        gradients = {name: p.grad for name, p in parts.trained().items()}
        found.append((both, gradients))
    (logits, gradients), (all_logits, all_gradients) = found
    torch.testing.assert_close(logits, all_logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients, all_gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("second", ["none-end", "none"])
def test_the_local_pass_leaves_the_body_out(saved: Any, second: str) -> None:
    """It is a stock model without what lies between the cuts."""
    pretrained, inputs = saved("bert"), inputs_of("bert")
    parts = chain(pretrained, spec_of("none", second))
    parts.body = None
    whole: Any = pretrained.whole(seed=3).eval()
    layers, mask = whole.bert.encoder.layer, mask_4d(inputs)
    with torch.no_grad():
        below = layers[0](whole.bert.embeddings(inputs["input_ids"]), mask)
        stream, last = layers[1].attention(below, mask)[0], layers[BLOCKS - 1]
        if second == "none":
            stream = last.output(last.intermediate(stream), stream)
        else:
            stream = last.output.LayerNorm(stream)
        expected = whole.classifier(whole.bert.pooler(stream))
        torch.testing.assert_close(parts.local(inputs), expected, rtol=0, atol=1e-6)


def mask_4d(inputs: dict[str, Tensor]) -> Tensor:
    return (1 - inputs["attention_mask"][:, None, None].float()) * torch.finfo(torch.float32).min


def test_scores_without_prompts_are_those_of_a_model_that_has_none(saved: Any) -> None:
    inputs = inputs_of("bert")
    parts = chain(saved("bert"), spec_of(prompts=4, first_row=True))
    none = chain(saved("bert"), spec_of(first_row=True))
    with torch.no_grad():
        torch.testing.assert_close(parts.local(inputs, prompted=False), none.local(inputs))
        assert not torch.allclose(parts.local(inputs), none.local(inputs))


@pytest.mark.parametrize("head", ["token-classification", "question-answering"])
def test_heads_that_judge_every_token_judge_no_prompt(saved: Any, head: str) -> None:
    pretrained, inputs = saved("bert", head), inputs_of("bert")
    parts = chain(pretrained, spec_of(prompts=4))
    assert parts(inputs).shape == parts.local(inputs).shape == (3, 7, 2)
    plain = chain(pretrained, spec_of())
    whole: Any = pretrained.whole(seed=3).eval()
    output = whole(**inputs)
    stock = (
        torch.stack([output.start_logits, output.end_logits], dim=-1)
        if head == "question-answering"
        else output.logits
    )
    torch.testing.assert_close(plain(inputs), stock, rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match=f"first_row with the head {head}, which reads every"):
        Parting(pretrained, spec_of(first_row=True))


def test_padding_carries_no_meaning(saved: Any) -> None:
    """Whatever stands there, and however much of it: bit for bit but for the sums' order."""
    inputs = inputs_of("bert")
    parts = chain(saved("bert"), spec_of("stream", "stream-end", prompts=2))
    logits = parts(inputs)
    other = {**inputs, "input_ids": inputs["input_ids"] + 9 * (1 - inputs["attention_mask"])}
    torch.testing.assert_close(parts(other), logits, rtol=0, atol=0)
    longer = {n: torch.nn.functional.pad(value, (0, 3)) for n, value in inputs.items()}
    torch.testing.assert_close(parts(longer), logits, rtol=0, atol=1e-6)
    mask = mask_with_prompts(inputs["attention_mask"], 2)
    activation = parts.head(inputs).detach().requires_grad_()
    parts.tail(parts.body(activation, mask), mask).square().sum().backward()
    assert activation.grad[mask == 0].eq(0).all()
    assert activation.grad[mask == 1].ne(0).any(dim=1).all()


def test_only_the_tail_has_dropout(saved: Any) -> None:
    inputs = inputs_of("bert")
    parts = chain(saved("bert"), spec_of(prompts=2)).train()
    with torch.no_grad():
        activation = parts.head(inputs)
        assert torch.equal(activation, parts.head(inputs))
        mask = torch.ones(3, 9, dtype=torch.long)
        rows = parts.body(activation, mask)
        assert torch.equal(rows, parts.body(activation, mask))
        assert not torch.equal(parts.tail(rows, mask), parts.tail(rows, mask))


def test_what_trains_is_told_taken_and_fresh_of_a_seed(saved: Any) -> None:
    pretrained, inputs = saved("bert"), inputs_of("bert")
    more = Pretrained(pretrained.checkpoint.folder, num_labels=5)
    parts, other = (chain(more, spec_of(prompts=2), seed=seed) for seed in (3, 4))
    state = parts.state()
    assert set(state) == {
        "prompts",
        f"bert.encoder.layer.{BLOCKS - 1}.output.LayerNorm.weight",
        f"bert.encoder.layer.{BLOCKS - 1}.output.LayerNorm.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }
    whole: Any = more.whole(seed=3)
    assert torch.equal(state["classifier.weight"], whole.classifier.weight)
    assert not torch.equal(state["prompts"], other.state()["prompts"])
    other.load(state)
    assert torch.equal(other(inputs), parts(inputs))
    del state["prompts"]
    with pytest.raises(ModelError, match="the state lacks prompts, and 0 more differ"):
        other.load(state)


def test_parts_that_do_not_fit_are_refused(saved: Any) -> None:
    bert = saved("bert")
    for spec, words in (
        (spec_of(layers=(2, 2)), "cut off in block 2, the head in block 2; .* must be above"),
        (spec_of(layers=(3, 2)), "cut off in block 2, the head in block 3"),
        (spec_of("none-end"), "unknown cut 'none-end'; choose one of: sft, .*none$"),
        (spec_of(second="half"), "unknown cut 'half'; .*none-end$"),
        (spec_of(prompts=2000), "2000 prompts are outside 0..1024"),
        (spec_of(layers=(1, 2), first_row=True), "first_row with a tail cut off in block 2"),
    ):
        with pytest.raises(ConfigError, match=words):
            Parting(bert, spec)
    with pytest.raises(ModelError, match="'mpnet' take no prompts; these do: bert, distilbert"):
        Parting(saved("mpnet"), spec_of(prompts=1))


def test_a_part_without_its_share_of_a_code_is_refused(saved: Any) -> None:
    bert, spec = saved("bert"), spec_of("sft", "stream-end")
    code = codes_of(bert, spec)
    with pytest.raises(ConfigError, match="cut sft in block 2 at rank 6 needs a code, and bert.*u"):
        Parting(bert, spec, NO_CODE).head(seed=0)
    without = {name: value for name, value in code.items() if not name.endswith("cut.encoder")}
    Parting(bert, spec, without).tail(seed=0)
    with pytest.raises(ConfigError, match="cut stream-end in block 4 .* and bert.*encoder was not"):
        Parting(bert, spec, without).body()
    wrong = {name: value[..., :3] for name, value in code.items()}
    with pytest.raises(ConfigError, match=r"layer.1.cut.u of the code has shape \(32, 3\)"):
        Parting(bert, spec, wrong).head(seed=0)
    with pytest.raises(ConfigError, match="cut stream-end needs a basis"):
        code_of(bert, spec.second)
