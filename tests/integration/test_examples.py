"""The scripts of examples/ as a person runs them, with tiny models."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.boards import points
from tests.models import save_tiny_model
from tests.processes import Cloud, free_place, running_cloud, write_rows
from tests.warm import Forge

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

SUBJECTS = ("room", "staff", "food", "tea", "bus", "lamp")
OPINIONS = (("bad", "poor", "awful"), ("good", "fine", "lovely"))

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with as many blocks as the smallest scripts want, fit to learn at their rate."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    sizes = {"num_hidden_layers": 6, "hidden_size": 64, "intermediate_size": 128}
    return save_tiny_model(folder, **sizes, **NO_DROPOUT)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews of four words."""
    rows = [
        {"sentence": f"the {SUBJECTS[n % 6]} was {OPINIONS[n % 2][n % 3]}", "label": n % 2}
        for n in range(840)
    ]
    return write_rows(tmp_path_factory.mktemp("data"), rows[:800], rows[800:])


def number(pattern: str, text: str) -> float:
    """Return the last number that stands where a pattern says."""
    return float(re.findall(pattern.replace("N", r"([\d.]+)"), text)[-1])


def check_half(sessions: Path) -> None:
    """Check that a cloud has kept net2, and nothing of net1."""
    (half,) = sessions.glob("*/cloud.safetensors")
    names = set(load_file(half))
    assert {"bert.encoder.layer.4.cut.sigma", "classifier.weight"} <= names
    assert not any("embeddings" in name for name in names)


def test_the_smallest_learns_unsplit(
    programs: Forge, model: Path, data: Path, tmp_path: Path
) -> None:
    text = programs.script(tmp_path, EXAMPLES / "smallest.py", data, model).said()
    assert number("epoch 3: accuracy N%", text) > 80


def test_the_smallest_learns_split_and_ends_its_session(
    model: Path, data: Path, tmp_path: Path
) -> None:
    """Factors that the edge computed, a head of its own, and Python's own way to end."""
    sessions = tmp_path / "sessions"
    with running_cloud(tmp_path / "cloud", "--save-dir", sessions) as cloud:
        line = [sys.executable, EXAMPLES / "smallest_split.py", data, model, "edge", cloud.server]
        paths = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, env=paths, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert number("epoch 3: accuracy N%", done.stdout) > 80
    check_half(sessions)


def test_the_smallest_serves_its_own_edge_and_ends(
    programs: Forge, model: Path, data: Path, tmp_path: Path
) -> None:
    """On the cloud it never reaches its loop; an edge with another cut is sent away."""
    server, script = free_place(), EXAMPLES / "smallest_split.py"
    cloud = programs.script(tmp_path / "cloud", script, "no data", model, "cloud", server)
    try:
        cloud.wait_for("listening on")
        other = tmp_path / "other.py"
        other.write_text(script.read_text().replace("split_layer=5", "split_layer=4"))
        wrong = programs.script(tmp_path, other, data, model, "edge", server)
        assert wrong.wait() != 0
        there = "the script has another cut on the edge (cut sft in block 4"
        assert there in wrong.log.read_text()
        edge = programs.script(tmp_path / "edge", script, data, model, "edge", server)
        assert number("epoch 3: accuracy N%", edge.said()) > 80
        text = cloud.said()
    finally:
        cloud.kill()
    assert "accuracy" not in text and "sft-cloud stopped" in text
    check_half(tmp_path / "cloud" / "sessions")


def test_the_trainer_learns(
    programs: Forge, cloud: Cloud, model: Path, data: Path, tmp_path: Path
) -> None:
    line = ("--model", model, "--data", data, "--server", cloud.server, "--split-layer", 5)
    line += ("--learning-rate", 1e-3, "--report-to", "tensorboard")
    text = programs.script(tmp_path, EXAMPLES / "hf_trainer.py", *line).said()
    assert number("'eval_accuracy': 'N'", text) > 0.9
    (log,) = (tmp_path / "trainer_output" / "runs").iterdir()
    board = points(log)
    assert [step for step, _ in board["eval/accuracy"]] == [25, 50, 75]
    assert board["train/loss"][-1][1] < board["train/loss"][0][1] / 2
    assert all(norm > 0 for _, norm in board["train/grad_norm"])


def test_a_vision_model_learns_to_read_digits(
    programs: Forge, cloud: Cloud, tmp_path: Path
) -> None:
    model = save_tiny_model(
        tmp_path / "vit", "vit", head="image-classification", num_labels=10, **NO_DROPOUT
    )
    line = ("--model", model, "--server", cloud.server, "--split-layer", 3)
    text = programs.script(
        tmp_path, EXAMPLES / "image_model.py", *line, "--learning-rate", 3e-3
    ).said()
    assert number("accuracy N% on 397", text) > 60  # by chance 10


def test_a_language_model_learns_the_tone(
    programs: Forge, cloud: Cloud, data: Path, tmp_path: Path
) -> None:
    model = save_tiny_model(tmp_path / "gpt2", "gpt2", head="causal-lm")
    line = ("--model", model, "--data", data, "--server", cloud.server, "--split-layer", 3)
    text = programs.script(
        tmp_path, EXAMPLES / "causal_lm.py", *line, "--learning-rate", 3e-3
    ).said()
    assert number("perplexity N after", text) < 4  # of 3 opinions and 6 subjects, and two words
    assert number("perplexity N before", text) > 40


@pytest.mark.parametrize("name", ["examples/README.md", "README.md"])
def test_the_diff_that_is_shown_is_the_real_one(name: str) -> None:
    """What it shows of the rest of the script stands there, in this order."""
    before, after = (
        (EXAMPLES / name).read_text().splitlines() for name in ("smallest.py", "smallest_split.py")
    )
    added = [line for line in after if line and line not in before]
    assert [line for line in after if line not in added] == [*before[:10], "", *before[10:]]
    (shown,) = re.findall(r"```diff\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    lines = [line for line in shown.splitlines() if line[1:].strip() not in ("", "...")]
    assert [line[1:] for line in lines if line[0] == "+"] == added
    rest = iter(after)
    assert all(line[1:] in rest for line in lines)
