"""The cloud's half of a script: what it never touches, and what it lets go of."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from sft_cloud import script
from sft_common.errors import ConfigError
from sft_common.optimizer import SFTOptimizer


class NotTouched:
    """Examples that are on the edge alone."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the cloud has asked the examples for {name}")

    def __iter__(self) -> Any:
        raise AssertionError("the cloud has asked for examples")

    def __len__(self) -> int:
        raise AssertionError("the cloud has counted the examples")

    def __bool__(self) -> bool:
        raise AssertionError("the cloud has looked at the examples")


def cloud_of(model: Any, optimizer: torch.optim.Optimizer, **more: Any) -> None:
    SFTOptimizer(optimizer, model=model, role="cloud", server="127.0.0.1:1", rank=4, **more)


def test_a_cloud_serves_net2_alone_and_touches_no_example(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    optimizer = torch.optim.Adam(model.parameters())
    gone = [weakref.ref(p) for n, p in model.named_parameters() if "embeddings" in n or "r.0." in n]
    kept = [weakref.ref(p) for n, p in model.named_parameters() if "layer.2" in n]
    served = []

    def run_server(*_: Any, **__: Any) -> None:
        gc.collect()
        served.append([each() is None for each in gone])

    monkeypatch.setattr(script, "run_server", run_server)
    with pytest.raises(SystemExit, match="0"):
        cloud_of(model, optimizer, split_layer=2, cut="stream", calibration=NotTouched())
    assert served == [[True] * len(gone)] and len(gone) > 10
    assert all(each() is not None for each in kept)


def test_a_cut_that_does_not_fit_is_refused_before_anything_is_served(tiny_model: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    with pytest.raises(ConfigError, match="split layer 9 is outside 1..4"):
        cloud_of(model, torch.optim.Adam(model.parameters()), split_layer=9)
