"""What is on disk is used only as far as it is what was fetched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sft_common.errors import ModelError
from sft_common.model.hub import remote_file
from sft_common.model.hub.remote_file import HEAD
from tests.range_server import RangeServer
from tests.unit.model.hub.published import (
    FILE,
    assert_same,
    owned,
    remote,
    size_of,
    tensors_of,
)


@pytest.mark.parametrize(("linked", "marked"), [(True, True), (False, True), (False, False)])
def test_another_version_begins_the_copy_anew(
    hub: RangeServer, original: Path, copy: Path, linked: bool, marked: bool
) -> None:
    hub.linked, hub.marked = linked, marked
    remote(hub, copy).fetch(["embeddings.weight"])
    with safe_open(copy, framework="pt") as old:
        before = old.get_tensor("embeddings.weight").clone()
    changed = {name: tensor + 1 for name, tensor in tensors_of().items()}
    if not marked:  # then only the size tells
        changed["more"] = torch.zeros(1)
    save_file(changed, original)
    with safe_open(copy, framework="pt") as old:  # a reader of the old copy is not disturbed
        remote(hub, copy).fetch(["layer.0.weight"])
        assert torch.equal(old.get_tensor("embeddings.weight"), before)
    assert_same(copy, changed, ["layer.0.weight"])
    remote(hub, copy).fetch(["embeddings.weight"])
    assert_same(copy, changed, ["layer.0.weight", "embeddings.weight"])


def test_a_file_that_became_shorter_begins_anew(
    hub: RangeServer, original: Path, copy: Path
) -> None:
    remote(hub, copy).tensors()
    small = {"layer.3.weight": torch.ones(3)}
    save_file(small, original)
    assert remote(hub, copy).fetch(["layer.3.weight"]) == original.stat().st_size
    assert_same(copy, small, ["layer.3.weight"])


def test_a_file_that_keeps_changing_is_given_up(
    hub: RangeServer, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = iter(range(1000))
    monkeypatch.setattr(remote_file, "_version", lambda _: str(next(marks)))
    with pytest.raises(ModelError, match="changes while it is fetched; name a commit"):
        remote(hub, copy).fetch(["embeddings.weight"])


@pytest.mark.parametrize(
    "damage", ["sidecar lost", "sidecar cut", "sidecar edited", "copy lost", "copy cut"]
)
def test_a_damaged_record_is_not_trusted(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor], damage: str
) -> None:
    names = owned([1])
    fetched = remote(hub, copy).fetch(names)
    sidecar = copy.with_name(f"{FILE}.ranges")
    text = sidecar.read_text()
    if damage == "sidecar lost":
        sidecar.unlink()
    elif damage == "sidecar cut":
        sidecar.write_text(text[:-9])
    elif damage == "sidecar edited":
        sidecar.write_text(text.replace("[0, 65536", "[0, 99999"))
    elif damage == "copy lost":
        copy.unlink()
    else:
        os.truncate(copy, copy.stat().st_size - 1)
    assert remote(hub, copy).fetch(names) == fetched
    assert_same(copy, tensors, names)


def test_damaged_bytes_and_only_those_come_again(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    names = ["layer.0.weight", "embeddings.weight"]
    places = remote(hub, copy).tensors()
    remote(hub, copy).fetch(names[:1])
    remote(hub, copy).fetch(names[1:])
    with open(copy, "r+b") as file:
        file.seek(places["layer.0.weight"][1] - 5)
        file.write(b"\x55\xaa")
    assert remote(hub, copy).fetch(names) <= size_of(tensors, names[:1])
    assert_same(copy, tensors, names)
    with open(copy, "r+b") as file:
        file.write(b"\xff" * 16)
    assert remote(hub, copy).fetch(names) == HEAD
    assert_same(copy, tensors, names)
