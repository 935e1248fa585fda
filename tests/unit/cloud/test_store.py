"""Trained halves on disk appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sft_cloud import store as store_module
from sft_cloud.store import Store
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec

SPEC = SessionSpec(model=ModelIdentity(name="m"), split=SplitSpec(split_layer=2), num_labels=2)


def test_weights_and_facts_are_kept(tmp_path: Path) -> None:
    final = Store(tmp_path / "new" / "place").save("ab12", SPEC, 7, {"w": torch.ones(2, 3).T})
    assert final == tmp_path / "new" / "place" / "ab12"
    assert load_file(final / "cloud.safetensors")["w"].shape == (3, 2)
    facts = json.loads((final / "session.json").read_text())
    assert (facts["session"], facts["steps"], facts["split"]["rank"]) == ("ab12", 7, 8)
    assert len({path.stat().st_mode for path in final.iterdir()}) == 1


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        Store(tmp_path).save("ab12", SPEC, 7, {"w": torch.ones(2)})
    assert list(tmp_path.iterdir()) == []
