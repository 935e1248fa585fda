"""The proof: 50 steps through two real processes equal 50 steps of one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from sft_common.model.loading import Pretrained
from sft_common.model.sources import demo_folder
from sft_common.plan import learning_rate_at
from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.table import TASKS
from sft_edge.tasks.texts import classified, tokenized
from tests.processes import history, running_cloud, train
from tests.reference import cut_model, train_cut_model

STEPS, BATCH, LAYER, RANK, SEED, RATE = 50, 8, 4, 8, 3, 5e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The run's folder and the folder of the cloud's half, after 50 steps with dropout off."""
    place = tmp_path_factory.mktemp("equality")
    with running_cloud(place / "cloud", "--save-dir", place / "saved") as cloud:
        metrics = train(
            place / "runs",
            *("--task", "demo", "--server", cloud.server, "--dropout", 0, "--seed", SEED),
            *("--cut", "sft", "--split-layer", LAYER, "--rank", RANK, "--batch-size", BATCH),
            *("--micro-batches", 1),
            *("--learning-rate", RATE, "--max-steps", STEPS, "--log-every", 1),
            *("--eval-examples", 32),
        )
    return place / "runs" / "run", place / "saved" / metrics["session_id"]


@pytest.fixture(scope="module")
def reference() -> tuple[list[float], dict[str, Tensor]]:
    """Losses and final weights of the same cut model trained here, on one thread as there."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder, task = demo_folder(), TASKS["demo"]
    rows = read_rows_of(task, None, train_limit=None, eval_limit=1)
    examples = classified(task, rows.train)
    data = tokenized(examples, AutoTokenizer.from_pretrained(folder), task.max_length)
    batches = [(batch.inputs, batch.labels) for batch in data.shuffled(BATCH, seed=SEED, epoch=0)][
        :STEPS
    ]
    head = Pretrained(folder, num_labels=2).whole(seed=SEED).classifier.state_dict()
    model = cut_model(
        folder,
        split_layer=LAYER,
        rank=RANK,
        num_labels=2,
        head={f"classifier.{name}": tensor for name, tensor in head.items()},
    )
    rates = [learning_rate_at(step, STEPS, RATE) for step in range(1, STEPS + 1)]
    losses = train_cut_model(model, batches, rates)
    torch.set_num_threads(threads)
    return losses, {name: p.detach() for name, p in model.named_parameters()}


def test_losses_are_equal(
    folders: tuple[Path, Path], reference: tuple[list[float], dict[str, Tensor]]
) -> None:
    lines = history(folders[0].parent)
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert len(losses) == STEPS
    assert losses == pytest.approx(reference[0], rel=1e-6)
    assert len(set(losses)) == STEPS


def test_final_weights_are_equal(
    folders: tuple[Path, Path], reference: tuple[list[float], dict[str, Tensor]]
) -> None:
    split = load_file(folders[0] / "edge.safetensors")
    split |= load_file(folders[1] / "cloud.safetensors")
    at = f"bert.encoder.layer.{LAYER - 1}"
    renamed = {
        f"{at}.u": f"{at}.cut.u",
        f"{at}.sigma": f"{at}.cut.sigma",
        f"{at}.v": f"{at}.cut.v",
        f"{at}.bias": f"{at}.intermediate.dense.bias",
    }
    expected = {renamed.get(name, name): tensor for name, tensor in reference[1].items()}
    assert set(split) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(split[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_the_cloud_kept_what_the_session_was(folders: tuple[Path, Path]) -> None:
    facts = json.loads((folders[1] / "session.json").read_text())
    assert facts["steps"] == STEPS
    asked = {"cut": "sft", "split_layer": LAYER, "rank": RANK, "decoder_layers": 0}
    assert facts["split"] == asked
