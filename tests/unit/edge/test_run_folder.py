"""What a run leaves on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sft_common.errors import ConfigError
from sft_edge.run_folder import RunFolder


def test_nothing_is_written_before_create(tmp_path: Path) -> None:
    RunFolder(tmp_path / "runs", "one")
    assert list(tmp_path.iterdir()) == []


def test_files_appear_whole(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs", "one")
    folder.create()
    folder.log(step=1, loss=0.5)
    folder.log(step=2, loss=0.25)
    folder.save_metrics({"task": "demo"})
    folder.save_job({"session_id": "ab"})
    folder.save_edge({"a.weight": torch.ones(2, 3).T})
    names = {path.name for path in folder.path.iterdir()}
    assert names == {"history.jsonl", "metrics.json", "job.json", "edge.safetensors"}
    assert len({path.stat().st_mode for path in folder.path.iterdir()}) == 1
    lines = (folder.path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert json.loads((folder.path / "metrics.json").read_text()) == {"task": "demo"}
    assert load_file(folder.path / "edge.safetensors")["a.weight"].shape == (3, 2)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "one")
    folder.create()
    folder.save_metrics({"good": 1})
    with pytest.raises(TypeError):
        folder.save_metrics({"bad": object()})
    assert json.loads((folder.path / "metrics.json").read_text()) == {"good": 1}


def test_a_run_that_came_to_nothing_frees_its_name(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "one")
    folder.discard_if_empty()
    folder.create()
    folder.discard_if_empty()
    assert list(tmp_path.iterdir()) == []
    folder = RunFolder(tmp_path, "one")
    folder.create()
    folder.log(step=1)
    folder.discard_if_empty()
    assert (tmp_path / "one" / "history.jsonl").exists()


def test_what_json_has_no_word_for_is_not_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "one")
    folder.create()
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.log(loss=float("nan"))
    assert list(folder.path.iterdir()) == []


def test_an_existing_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(ConfigError, match="is there already; choose another --name"):
        RunFolder(tmp_path, "one")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="plain folder name"):
        RunFolder(tmp_path, name)
