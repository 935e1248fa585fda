"""What a container leaves of the machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sft_cloud.overview import device_memory
from sft_common import memory

CPU = torch.device("cpu")


@pytest.mark.parametrize("version", [0, 1])
def test_a_containers_memory_is_what_it_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    group = memory.GROUPS[version]._replace(folder=tmp_path)
    monkeypatch.setattr(memory, "GROUPS", (group,))
    (tmp_path / group.limit).write_text("2000000\n")
    (tmp_path / group.used).write_text("700000\n")
    (tmp_path / "memory.stat").write_text(f"anon 500000\n{group.cached} 200000\n")
    assert device_memory(CPU) == (2_000_000, 1_500_000)


def test_a_group_without_a_limit_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = memory.GROUPS[0]._replace(folder=tmp_path)
    monkeypatch.setattr(memory, "GROUPS", (group,))
    (tmp_path / group.limit).write_text("max\n")
    total, free = device_memory(CPU)
    assert total > free > 2_000_000
