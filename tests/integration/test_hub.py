"""The two real commands: model and data set from a hub, here one on loopback."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet

from tests.hub import COMMIT, running_hub
from tests.models import save_tiny_model
from tests.processes import run, running_cloud

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
    fetched = [r for r in hub.requests if "model.safetensors" in r and r.startswith("GET")]
    assert len(fetched) == 2 and all(COMMIT in request for request in fetched)
