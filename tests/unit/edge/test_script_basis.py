"""A basis found in what a script's model is called with, and whose optimizer groups train it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.calibration import TOKENS_PER_CHANNEL, calibrate
from sft_common.model.cuts import Basis
from sft_common.model.loading import Pretrained
from sft_edge.script_basis import script_basis
from sft_edge.surrender import Surrender
from tests.models import SIZES, save_tiny_model

HIDDEN = SIZES["hidden_size"]
CPU = torch.device("cpu")


def model_of(folder: Path) -> Any:
    return transformers.AutoModelForSequenceClassification.from_pretrained(folder).train()


def spec_of(cut: str = "stream", encoding: str = "float32") -> SessionSpec:
    return SessionSpec(
        model=ModelIdentity(name="tiny"),
        split=SplitSpec(cut=cut, split_layer=2, rank=4),
        num_labels=2,
        encoding=encoding,
        gradient_encoding="float32",
    )


def rows(count: int = 400) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(5, SIZES["vocab_size"], (count, 6), generator=generator)


def inputs_of(tokens: Tensor) -> dict[str, Tensor]:
    """Return tokens whose last one is padding in every other example."""
    mask = torch.ones_like(tokens)
    mask[::2, -1] = 0
    return {"input_ids": tokens, "attention_mask": mask}


def as_the_command_line(folder: Path, spec: SessionSpec, *, balanced: bool) -> Basis:
    pretrained = Pretrained(folder, num_labels=2)
    net1 = pretrained.net1(spec.split)
    pretrained.fill_net1(net1)
    batches = [inputs_of(part) for part in rows().split(8)]
    return calibrate(
        net1,
        ((inputs, inputs["attention_mask"]) for inputs in batches),
        rank=4,
        hidden=HIDDEN,
        balanced=balanced,
        device=CPU,
        source="the test",
    )


@pytest.mark.parametrize(("encoding", "balanced"), [("float32", False), ("int4", True)])
@pytest.mark.parametrize("cut", ["stream", "stream-end"])
def test_it_is_what_the_command_line_finds(
    tiny_model: Path, cut: str, encoding: str, balanced: bool
) -> None:
    spec = spec_of(cut, encoding)
    batches = [inputs_of(part) for part in rows().split(8)]
    found = script_basis(model_of(tiny_model), spec, batches)
    for mine, theirs in zip(
        found, as_the_command_line(tiny_model, spec, balanced=balanced), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    "form",
    [
        lambda inputs: inputs | {"labels": torch.zeros(8), "token_type_ids": None, "idx": [1]},
        lambda inputs: transformers.BatchEncoding(inputs),
        lambda inputs: (inputs, torch.zeros(8)),
        lambda inputs: [inputs],
    ],
)
def test_labels_and_what_else_there_is_are_passed_over(
    tiny_model: Path, form: Callable[[dict[str, Tensor]], Any]
) -> None:
    model, batches = model_of(tiny_model), [inputs_of(part) for part in rows().split(8)]
    expected = script_basis(model, spec_of(), batches)
    found = script_basis(model, spec_of(), [form(inputs) for inputs in batches])
    assert all(map(torch.equal, found, expected))


def test_a_tensor_is_what_a_model_is_called_with_and_every_token_counts(tiny_model: Path) -> None:
    model, parts = model_of(tiny_model), rows().split(8)
    expected = script_basis(model, spec_of(), [{"input_ids": part} for part in parts])
    for found in (parts, [(part, torch.zeros(8)) for part in parts]):
        assert all(map(torch.equal, script_basis(model, spec_of(), found), expected))


def test_the_patches_of_an_image_all_count(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "vit", "vit", head="image-classification")
    model = transformers.AutoModelForImageClassification.from_pretrained(folder)
    pixels = torch.randn(4, 3, 16, 16)
    expected = script_basis(model, spec_of(), [{"pixel_values": pixels}])
    assert all(map(torch.equal, script_basis(model, spec_of(), [pixels]), expected))
    assert expected.mean.shape == (HIDDEN,)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ("text", "a str"),
        (tuple(rows(3)), "a tuple of 3"),
        ({"labels": torch.zeros(2)}, "a mapping of labels"),
    ],
)
def test_what_is_no_batch_is_refused(tiny_model: Path, batch: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"calibration brought {words}; each batch must be"):
        script_basis(model_of(tiny_model), spec_of(), [batch])


class Drawn:
    """Batches that count how many of them were drawn, and move every random state."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[Tensor]:
        for part in rows().split(8):
            self.count += 1
            torch.rand(1), random.random(), np.random.rand()
            yield part


def random_states(*generators: torch.Generator) -> Iterable[Any]:
    name, numbers, *others = np.random.get_state()
    own = [generator.get_state().tolist() for generator in generators]
    python = random.getstate()
    return torch.get_rng_state().tolist(), python, name, list(numbers), others, own


def test_nothing_is_left_changed_and_no_more_is_drawn_than_is_needed(tiny_model: Path) -> None:
    model, batches = model_of(tiny_model), Drawn()
    model.get_submodule("bert.encoder.layer.1").eval()  # a script may have modes of its own
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    states = random_states()
    script_basis(model, spec_of(), batches)
    assert batches.count == TOKENS_PER_CHANNEL * HIDDEN // (8 * 6)
    assert random_states() == states
    assert [module.training for module in model.modules()] == modes
    assert {*before} == {*model.state_dict()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loader_draws_afterwards_as_if_nothing_had_been(tiny_model: Path) -> None:
    one, two = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    sampler = RandomSampler(rows(), generator=two)
    states = random_states(one, two)
    for loader in (
        DataLoader(rows(), batch_size=8, shuffle=True, generator=one),
        DataLoader(rows(), batch_size=8, sampler=sampler),
    ):
        script_basis(model_of(tiny_model), spec_of(), loader)
    assert random_states(one, two) == states


AT = "bert.encoder.layer.1"


def groups(model: Any) -> torch.optim.Optimizer:
    """Return an optimizer in three groups: matrices, biases and norms, and the head."""
    named = dict(model.named_parameters())
    head = [p for name, p in named.items() if name.startswith("classifier")]
    rest = [p for name, p in named.items() if not name.startswith("classifier")]
    parts = [p for p in rest if p.ndim > 1], [p for p in rest if p.ndim < 2], head
    return torch.optim.SGD([{"params": part} for part in parts], lr=0.1)


def test_a_basis_trains_with_the_block_that_is_cut(tiny_model: Path) -> None:
    """Matrices with its feed-forward layer's, vectors with its norm."""
    model = model_of(tiny_model)
    optimizer, basis = groups(model), script_basis(model, spec_of(), rows().split(8))
    whole = Surrender(model, spec_of().split, "sequence-classification")
    matrices, vectors, head = whole.groups_of(optimizer)
    assert f"{AT}.cut.decoder" in matrices and f"{AT}.cut.mean" in vectors
    assert {*head} == {"classifier.weight", "classifier.bias"}
    net2 = whole.net2(lambda: basis)
    assert {*net2} == {*matrices, *vectors, *head}
    assert torch.equal(net2[f"{AT}.cut.decoder"], basis.decoder)
    net1, _ = whole.surrender(optimizer)
    cut: Any = net1.block.cut
    first, second, _ = ([id(p) for p in group["params"]] for group in optimizer.param_groups)
    assert id(cut.encoder) in first and id(cut.offset) in second
    assert torch.equal(cut.encoder, basis.encoder)
    torch.testing.assert_close(cut.offset, -basis.mean @ basis.encoder)


def test_the_basis_of_a_frozen_block_is_frozen(tiny_model: Path) -> None:
    model = model_of(tiny_model)
    model.bert.requires_grad_(False)
    optimizer, basis = groups(model), script_basis(model, spec_of(), rows().split(8))
    whole = Surrender(model, spec_of().split, "sequence-classification")
    names = [name for group in whole.groups_of(optimizer) for name in group]
    assert {*names} == {"classifier.weight", "classifier.bias"}
    whole.net2(lambda: basis)
    net1, _ = whole.surrender(optimizer)
    assert not any(parameter.requires_grad for parameter in net1.block.cut.parameters())
