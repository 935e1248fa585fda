"""A file of tensors as it is published, and what is looked at in its copy."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sft_common.model.hub.remote_file import RemoteFile
from tests.range_server import RangeServer

REPO = "org/model"
FILE = "model.safetensors"
KIB = 1024


def tensors_of(blocks: int = 4) -> dict[str, Tensor]:
    """Return 1 MiB of embeddings and blocks of 256 KiB in three widths, with oddities."""
    draw = torch.Generator().manual_seed(blocks)
    made = {
        f"layer.{n}.{name}": torch.randn(size, generator=draw).to(dtype)
        for n in range(blocks)
        for name, size, dtype in (
            ("weight", (128, 256), torch.float32),
            ("half", (128, 256), torch.float16),
            ("brain", (128, 256), torch.bfloat16),
        )
    }
    made["embeddings.weight"] = torch.randn(1024, 256, generator=draw)
    made["nothing"] = torch.empty(0, 3)
    made["scalar"] = torch.tensor(3, dtype=torch.int64)
    return made


def size_of(tensors: dict[str, Tensor], names: list[str]) -> int:
    return sum(tensors[name].numel() * tensors[name].element_size() for name in names)


def header_size(file: Path) -> int:
    with open(file, "rb") as opened:
        return 8 + int.from_bytes(opened.read(8), "little")


def assert_same(file: Path, tensors: dict[str, Tensor], names: list[str]) -> None:
    with safe_open(file, framework="pt") as opened:
        assert set(opened.keys()) <= set(tensors)
        for name in names:
            found = opened.get_tensor(name)
            assert found.dtype == tensors[name].dtype, name
            assert torch.equal(found, tensors[name]), name


def remote(hub: RangeServer, copy: Path, **options: int) -> RemoteFile:
    return RemoteFile(hub.file_url(REPO, FILE), copy, **options)  # type: ignore[arg-type]


def owned(blocks: list[int]) -> list[str]:
    return [f"layer.{n}.{name}" for n in blocks for name in ("weight", "half", "brain")]


def shard(folder: Path, tensors: dict[str, Tensor], parts: int = 3) -> dict[str, str]:
    """Turn a folder's single file into shards; returns name -> file name."""
    (folder / FILE).unlink()
    weight_map: dict[str, str] = {}
    for part in range(parts):
        file = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        names = sorted(tensors)[part::parts]
        save_file({name: tensors[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return weight_map
