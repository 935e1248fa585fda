"""A federation's file: what is left out, what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_cloud.catalog import ModelCatalog
from sft_cloud.federation.file import read_federation
from sft_common.config import SplitSpec
from sft_common.errors import ConfigError, ModelError
from sft_common.federation.plan import FederationPlan, LocalTraining, Participation, Transfer
from tests.federated import write_file
from tests.models import save_tiny_model

SHORT = """
name = "reviews"
method = "{method}"
model = "{model}"
labels = ["bad", "good"]
rounds = 3
"""


def read(path: Path) -> FederationPlan:
    return read_federation(path, ModelCatalog().own).plan


def short(folder: Path, model: Path, method: str, more: str = "") -> FederationPlan:
    path = folder / "f.toml"
    path.write_text(SHORT.format(method=method, model=model) + more)
    return read(path)


def test_what_is_left_out_of_sfprompt(tmp_path: Path, tiny_model: Path) -> None:
    """As published, but for a text the tail has the last block, and one pass goes past the body."""
    plan = short(tmp_path, tiny_model, "sfprompt")
    assert plan.training == LocalTraining(epochs=1, batch_size=32, learning_rate=1e-3, keep=0.5)
    assert plan.training.prompts == 5 and not plan.first_row
    assert plan.clients == Participation(per_round=5, minimum=5, quorum=3)
    assert plan.cut == Transfer(split=SplitSpec(cut="none", split_layer=2))
    assert plan.tail == Transfer(split=SplitSpec(cut="none-end", split_layer=3))
    assert plan.model.name == "tiny-bert" and plan.model.weights_digest


def test_what_is_left_out_of_the_others(tmp_path: Path, tiny_model: Path) -> None:
    whole, halves = (short(tmp_path, tiny_model, method) for method in ("fedavg", "splitfed"))
    assert whole.cut is None and whole.tail is None and halves.tail is None
    assert halves.cut == Transfer(split=SplitSpec(cut="sft", split_layer=3, rank=8))
    assert whole.training == LocalTraining(epochs=1, learning_rate=5e-5)


def test_gradients_travel_as_activations_do(tmp_path: Path, tiny_model: Path) -> None:
    plan = short(tmp_path, tiny_model, "splitfed", '[cut]\nencoding = "int8"')
    assert plan.cut is not None and plan.cut.gradient_encoding == "int8"


def test_images_go_past_the_body_as_often_as_published(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "vit", "vit", head="image-classification")
    plan = short(tmp_path, model, "sfprompt", 'kind = "image"')
    assert plan.training.epochs == 10


def test_a_tail_of_the_head_alone_wants_the_first_row(tmp_path: Path, tiny_model: Path) -> None:
    plan = short(tmp_path, tiny_model, "sfprompt", "[tail]\nsplit_layer = 4")
    assert plan.first_row


@pytest.mark.parametrize(("blocks", "cut", "tail"), [(2, 1, 2), (3, 1, 2), (4, 2, 3), (6, 2, 5)])
def test_a_model_of_few_blocks_has_three_parts_too(
    tmp_path: Path, blocks: int, cut: int, tail: int
) -> None:
    save_tiny_model(tmp_path / "model", num_hidden_layers=blocks)
    plan = short(tmp_path, tmp_path / "model", "sfprompt")
    assert plan.cut is not None and plan.tail is not None
    assert (plan.cut.split.split_layer, plan.tail.split.split_layer) == (cut, tail)
    low = short(tmp_path, tmp_path / "model", "sfprompt", f"[cut]\nsplit_layer = {blocks - 1}")
    assert low.tail is not None and low.tail.split.split_layer == blocks


def test_more_may_have_to_be_there_than_are_drawn(tmp_path: Path, tiny_model: Path) -> None:
    plan = short(tmp_path, tiny_model, "fedavg", "[clients]\nper_round = 5\nminimum = 8")
    assert plan.clients == Participation(per_round=5, minimum=8, quorum=3)


def test_a_folder_is_looked_for_beside_the_file(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "model").symlink_to(tiny_model)
    catalog = ModelCatalog()
    path = write_file(tmp_path / "f.toml", Path("model"))
    assert read_federation(path, catalog.own).plan.model.name == "tiny-bert"
    assert catalog.find("tiny-bert", "").folder == tiny_model, "edges may name it now"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "song"}, "kind is 'song'; it must be one of text, similarity, image"),
        ({"colour": "red"}, "the file has 'colour'; it takes clients, cut, kind"),
        ({"training": {"learning_rate": -1}}, r"\[training\] learning_rate is -1; it must be"),
        ({"training": {"dropout": 1.0}}, r"\[training\] dropout 1.0 is outside"),
        ({"method": "splitfed", "tail": {"rank": 4}}, r"\[tail\] is of sfprompt alone"),
        ({"method": "splitfed", "cut": {"split_layer": 9}}, r"\[cut\] split_layer is 9; .* 1 to 4"),
        ({"method": "splitfed", "cut": {"cut": "none-end"}}, r"\[cut\] cut is 'none-end'"),
        ({"privacy": {"clip": 0, "noise": 1}}, "clip: 0 is outside"),
        ({"method": "splitfed", "privacy": {"clip": 1, "noise": 1}}, "splitfed takes no privacy"),
    ],
)
def test_more_that_is_wrong(
    tmp_path: Path, tiny_model: Path, changes: dict[str, Any], said: str
) -> None:
    path = write_file(tmp_path / "f.toml", tiny_model, **changes)
    with pytest.raises((ConfigError, ModelError), match=said):
        read(path)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_file(tmp_path / "f.toml", tmp_path / "nothing")
    with pytest.raises(ModelError, match="nothing"):
        read(path)
