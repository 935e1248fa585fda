"""Net1 is measured as it is trained, and nothing of it stays behind."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_common.config import SplitSpec
from sft_common.errors import DataError
from sft_common.model.heads import IGNORED
from sft_common.model.loading import Pretrained
from sft_edge.planner.edge_rehearsal import Rehearsed, rehearse_edge
from sft_edge.planner.scene import Lengths
from sft_edge.tasks.batches import Batch
from tests.models import save_tiny_model


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "tiny"
    return save_tiny_model(folder, head="token-classification", num_hidden_layers=1)


class Words:
    """A batch of two parts, whose first has these labels."""

    lengths: tuple[Lengths, ...] = ((3, 4),)

    def __init__(self, first: int, second: int) -> None:
        self._labels = first, second

    def parts(self, number: int, count: int) -> list[Batch]:
        return [
            Batch(
                inputs={"input_ids": torch.ones(1, tokens, dtype=torch.long)},
                lengths=[tokens],
                labels=[label] * tokens,
            )
            for tokens, label in zip(self.lengths[0], self._labels, strict=True)
        ]


def rehearsed(model: Path, sample: Words) -> tuple[Rehearsed, list[weakref.ref[Any]]]:
    pretrained = Pretrained(model, num_labels=2, head="token-classification")
    made: list[weakref.ref[Any]] = []
    blank = pretrained.blank_net1

    def noted(split: SplitSpec) -> Any:
        net1 = blank(split)
        made.extend(map(weakref.ref, net1.parameters()))
        return net1

    pretrained.blank_net1 = noted  # type: ignore[method-assign]
    split = SplitSpec(cut="stream", split_layer=1, rank=4)
    return rehearse_edge(pretrained, split, sample, torch.device("cpu"), (1, 1)), made


def test_a_part_without_labels_is_left_out_as_in_a_step(tagger: Path) -> None:
    found, made = rehearsed(tagger, Words(IGNORED, 1))
    assert found.base.forward.of(4) > 0 and found.base_token_bytes > 0
    assert found.block.forward.of(4) == 0  # there is but one
    assert made and all(parameter() is None for parameter in made)


def test_batches_without_any_label_are_refused(tagger: Path) -> None:
    with pytest.raises(DataError, match="has a label"):
        rehearsed(tagger, Words(IGNORED, IGNORED))
