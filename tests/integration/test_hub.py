"""The two real commands: model and data set from a hub, here one on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from sft_common.config import SplitSpec
from sft_common.model.hub.remote_file import HEAD
from sft_common.model.loading import Pretrained
from sft_common.model.partition import cloud_half
from tests.hub import COMMIT, Hub, running_hub
from tests.models import save_tiny_model
from tests.processes import run, running_cloud, write_rows

CARD = """---
configs:
- config_name: sst2
  data_files:
  - split: train
    path: sst2/train-*
  - split: validation
    path: sst2/validation-*
---
"""


def save_glue(folder: Path) -> Path:
    """Write a data set repository laid out as the published one."""
    rows = [
        {"sentence": "a lovely room" if n % 2 else "awful tea", "label": n % 2, "idx": n}
        for n in range(32)
    ]
    (folder / "sst2").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for part in ("train", "validation"):
        path = folder / "sst2" / f"{part}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return folder


def test_model_and_data_come_from_the_hub(tmp_path: Path) -> None:
    repositories = {
        "models/bert-base-uncased": save_tiny_model(tmp_path / "repo"),
        "datasets/nyu-mll/glue": save_glue(tmp_path / "glue"),
    }
    with running_hub(repositories) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        for side in ("edge", "cloud"):
            (tmp_path / side).mkdir()
        with running_cloud(
            tmp_path / "cloud", environment={**environment, "HF_HOME": str(tmp_path / "cloud/hf")}
        ) as cloud:
            done = run(
                "sft-edge",
                *("train", "--task", "sst2", "--server", cloud.server, "--max-steps", 2),
                *("--name", "hub", "--rank", 4, "--quiet"),
                cwd=tmp_path / "edge",
                environment={**environment, "HF_HOME": str(tmp_path / "edge/hf")},
            )
            assert done.returncode == 0, done.stderr + "\n".join(hub.requests)
            assert done.stderr == ""
            assert "bert-base-uncased" in cloud.log.read_text()
    assert (tmp_path / "edge" / "runs" / "hub" / "metrics.json").exists()
    fetched = [r for r in hub.requests if "model.safetensors" in r and "/cdn/" not in r]
    assert len(fetched) >= 2 and all(COMMIT in request for request in fetched)
    assert all(asked for _, asked in hub.ranges)


FILE = "model.safetensors"
SPLIT = SplitSpec(split_layer=3, rank=4)
SIZES: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "vocab_size": 4096,
}
"""Matrices of more than the gap that is bridged between two wanted tensors."""

SPLIT_WEIGHT = 192 * 768 * 4
ROWS = [{"sentence": "a lovely room" if n % 2 else "awful tea", "label": n % 2} for n in range(32)]


def size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() * 4 for parameter in parameters)


def tensor_bytes(hub: Hub) -> int:
    return sum(count for file, count in hub.sent.items() if file.endswith(".safetensors"))


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), **more}


def train(tmp_path: Path, server: str, name: str, at_edge: dict[str, str]) -> None:
    done = start_training(tmp_path, server, name, at_edge)
    assert done.returncode == 0, done.stderr


def start_training(
    tmp_path: Path, server: str, name: str, at_edge: dict[str, str], model: str = "org/tiny"
) -> subprocess.CompletedProcess[str]:
    return run(
        "sft-edge",
        *("train", "--task", "sst2", "--data", tmp_path / "data", "--model", model),
        *("--server", server, "--split-layer", SPLIT.split_layer, "--rank", SPLIT.rank),
        *("--max-steps", 2, "--quiet", "--runs-dir", tmp_path / "runs", "--name", name),
        environment=at_edge,
    )


def losses_of(run_folder: Path) -> list[float]:
    lines = (run_folder / "history.jsonl").read_text().splitlines()
    return [fact["loss"] for fact in map(json.loads, lines) if "loss" in fact]


@pytest.mark.parametrize("shard_size", ["1GB", "4MB"])
def test_each_side_fetches_only_its_own_bytes_and_only_once(
    tmp_path: Path, shard_size: str
) -> None:
    repo = save_tiny_model(tmp_path / "repo", **SIZES)
    pretrained = Pretrained(repo, num_labels=2)
    own_edge = size(pretrained.net1(SPLIT).parameters())
    net2 = cloud_half(pretrained.config, SPLIT, pretrained.head)
    own_cloud = size(net2.parameters()) + SPLIT_WEIGHT
    model = AutoModelForSequenceClassification.from_pretrained(repo)
    (repo / "model.safetensors").unlink()
    model.save_pretrained(repo, max_shard_size=shard_size)
    files = list(repo.glob("*.safetensors"))
    assert (len(files) > 1) == (shard_size == "4MB")
    whole, slack = sum(file.stat().st_size for file in files), (len(files) + 2) * HEAD
    write_rows(tmp_path / "data", ROWS, ROWS[:8])
    repositories = {"models/org/tiny": repo}
    with running_hub(repositories) as to_edge, running_hub(repositories) as to_cloud:
        at_edge = environment(to_edge, tmp_path / "edge")
        at_cloud = environment(to_cloud, tmp_path / "cloud")
        with running_cloud(tmp_path, environment=at_cloud) as cloud:
            train(tmp_path, cloud.server, "first", at_edge)
            fetched = tensor_bytes(to_edge), tensor_bytes(to_cloud)
            for found, own in zip(fetched, (own_edge, own_cloud), strict=True):
                assert own <= found <= own + slack < 0.7 * whole, (fetched, own, whole)
        with running_cloud(tmp_path, environment=at_cloud) as cloud:
            train(tmp_path, cloud.server, "second", at_edge)
        assert (tensor_bytes(to_edge), tensor_bytes(to_cloud)) == fetched
    offline = {"HF_HUB_OFFLINE": "1"}
    with running_cloud(tmp_path, environment=at_cloud | offline) as cloud:
        train(tmp_path, cloud.server, "offline", at_edge | offline)
    losses = [losses_of(tmp_path / "runs" / name) for name in ("first", "second", "offline")]
    assert losses[0] and losses == [losses[0]] * 3


def test_an_edge_with_the_hubs_model_meets_a_cloud_with_a_folder(tmp_path: Path) -> None:
    repo = save_tiny_model(tmp_path / "repo" / "tiny")
    tuned = Path(shutil.copytree(repo, tmp_path / "tuned"))
    changed = {name: tensor + 1e-3 for name, tensor in load_file(repo / FILE).items()}
    save_file(changed, tuned / FILE, metadata={"format": "pt"})
    write_rows(tmp_path / "data", ROWS, ROWS[:8])
    with (
        running_hub({"models/org/tiny": repo, "models/org/tuned": repo}) as hub,
        running_cloud(tmp_path, "--model", repo, "--model", tuned) as cloud,
    ):
        at_edge = environment(hub, tmp_path / "edge")
        train(tmp_path, cloud.server, "same", at_edge)
        done = start_training(tmp_path, cloud.server, "other", at_edge, "org/tuned")
    assert done.returncode == 1
    assert "different weights of model 'org/tuned'" in done.stderr


def test_a_model_without_safetensors_says_what_to_do(tmp_path: Path) -> None:
    repo = save_tiny_model(tmp_path / "repo")
    (repo / FILE).rename(repo / "pytorch_model.bin")
    write_rows(tmp_path / "data", ROWS, ROWS[:8])
    with running_hub({"models/org/tiny": repo}) as hub:
        at_edge = environment(hub, tmp_path / "edge")
        done = start_training(tmp_path, "127.0.0.1:9", "none", at_edge)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "convert it with save_pretrained" in done.stderr
