"""Snapshots are whole or not there, and what is read is what was written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from sft_common import files
from sft_common.errors import SnapshotError
from sft_common.snapshots import Snapshot, Snapshots, step_name

FACTS = {"step": 3, "name": "a", "rates": [0.1, 2]}
TENSORS = {"weights": {"w": torch.randn(3, 4)}, "randomness": {"cpu": torch.get_rng_state()}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    kept = Snapshots(tmp_path / "new")
    assert kept.names() == []
    kept.write(step_name(3), Snapshot(FACTS, {**TENSORS, "none": {}}))
    found = kept.read(step_name(3))
    assert found.facts == FACTS
    assert found.tensors.keys() == TENSORS.keys()
    for group, tensors in TENSORS.items():
        for name, tensor in tensors.items():
            assert torch.equal(found.tensors[group][name], tensor)


def test_steps_come_in_their_order(tmp_path: Path) -> None:
    kept = Snapshots(tmp_path)
    for name in (step_name(20), step_name(100_000_000), step_name(3), "parked-00000020-1"):
        kept.write(name, Snapshot(FACTS, TENSORS))
    assert kept.steps() == [3, 20, 100_000_000]
    kept.remove(step_name(20))
    kept.remove(step_name(20))
    assert kept.steps() == [3, 100_000_000]


def test_what_a_killed_program_left_is_no_snapshot_and_goes(tmp_path: Path) -> None:
    kept = Snapshots(tmp_path)
    kept.write(step_name(3), Snapshot(FACTS, TENSORS))
    half = tmp_path / f".{step_name(6)}.1.partial"
    half.mkdir()
    (half / "snapshot.json").write_text("{")
    assert kept.steps() == [3]
    kept.write(step_name(9), Snapshot(FACTS, TENSORS))
    assert kept.steps() == [3, 9] and not half.exists()


def test_a_written_snapshot_was_flushed_before_it_got_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename = files._flush, Path.rename
    monkeypatch.setattr(files, "_flush", lambda path: (done.append(path.name), flush(path)))
    monkeypatch.setattr(
        Path, "rename", lambda path, new: (done.append("renamed"), rename(path, new))
    )
    Snapshots(tmp_path).write(step_name(3), Snapshot(FACTS, TENSORS))
    at = done.index("renamed")
    assert {"snapshot.json", "weights.safetensors", "randomness.safetensors"} <= set(done[:at])
    assert f".{step_name(3)}.{os.getpid()}.partial" in done[:at], "the folder itself"
    assert done[at + 1 :] == [tmp_path.name], "the folder that it is in"


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    kept = Snapshots(tmp_path)
    kept.write(step_name(3), Snapshot(FACTS, TENSORS))
    for path in sorted((tmp_path / step_name(3)).iterdir()):
        whole = path.read_bytes()
        for at in range(0, len(whole), 97):
            damaged = bytearray(whole)
            damaged[at] ^= 0x20
            path.write_bytes(damaged)
            if path.suffix == ".json" and json.loads(whole) == _loads(damaged):
                continue  # white space, or another way to write the same
            with pytest.raises(SnapshotError, match="damaged|cannot be read"):
                kept.read(step_name(3))
        path.write_bytes(whole)
    assert kept.read(step_name(3)).facts == FACTS


def _loads(data: bytearray) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def test_files_outside_are_not_read(tmp_path: Path) -> None:
    """Whoever writes a snapshot's facts could name any file."""
    kept, name = Snapshots(tmp_path / "kept"), step_name(3)
    kept.write(name, Snapshot(FACTS, TENSORS))
    shutil.copy(tmp_path / "kept" / name / "weights.safetensors", tmp_path / "secret.safetensors")
    facts = tmp_path / "kept" / name / "snapshot.json"
    content = json.loads(facts.read_text())["content"]
    content["files"]["../../secret"] = content["files"].pop("weights")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    facts.write_text(json.dumps({"content": content, "sha256": digest}))
    with pytest.raises(SnapshotError, match="cannot be read: .*No such file"):
        kept.read(name)


def test_a_snapshot_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="step-00000007 cannot be read: .*No such file"):
        Snapshots(tmp_path).read(step_name(7))
