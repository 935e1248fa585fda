"""A client of SplitFed between rounds: it trains the same net1 with a new optimizer each time."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sft_common.config import SplitSpec
from sft_common.federation.said import Attempt
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_edge.federation import splitfed
from sft_edge.federation.attendance import Abandoned
from sft_edge.federation.splitfed import SplitFed


def test_a_round_that_is_given_up_leaves_nothing_behind_on_net1(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what an optimizer put off, which would fall on the next average, nor its moments."""
    pretrained = Pretrained(tiny_model, num_labels=2)
    head = HEAD_TABLE["sequence-classification"]
    material: Any = SimpleNamespace(
        plan=SimpleNamespace(cut=SimpleNamespace(split=SplitSpec(cut="none", split_layer=2))),
        pretrained=pretrained,
        device=torch.device("cpu"),
        head=head,
        options=argparse.Namespace(labels="cloud"),
    )
    method: Any = SplitFed(material, None, None)  # type: ignore[arg-type]
    method._session = object()
    words = method._net1.words

    def given_up(material: Any, learner: Any, at: Attempt, check: Any) -> list[float]:
        words(torch.tensor([[1, 2]])).sum().backward()
        learner._table.take()
        check()
        return []

    def over() -> None:
        raise Abandoned

    monkeypatch.setattr(splitfed, "train_epochs", given_up)
    with pytest.raises(Abandoned):
        method.train(Attempt(1, 1, 1), over)
    average = words.weight.detach().clone()
    words.train()(torch.tensor([[1, 3]]))
    assert torch.equal(words.weight, average)
    assert not words._forward_pre_hooks
