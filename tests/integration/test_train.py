"""`sft-edge train` against `sft-cloud serve`: what it leaves, and that it counts honestly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from benchmarks.relay import counting_relay
from tests.processes import (
    Cloud,
    edge_here,
    history,
    run,
    running_cloud,
    train,
    train_here,
    write_rows,
)

GOOD, BAD = "a lovely quiet room and fine food", "awful staff never again"
ROWS = [{"sentence": GOOD if n % 2 else BAD, "label": n % 2} for n in range(48)]

KEYS = {
    "": {
        *("task", "model", "cut", "split_layer", "rank", "encoding", "steps", "epochs"),
        *("examples", "metric", "unsplit", "bytes", "seconds", "peak_rss_bytes"),
    },
    "metric": {"name", "value"},
    "unsplit": {"name", "value"},
    "bytes": {"up", "down", "split_learning_up", "split_learning_down", "reduction"},
    "seconds": {"total", "edge", "wire", "cloud"},
    "peak_rss_bytes": {"edge"},
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data"), ROWS, ROWS[:16])


def arguments(cloud: Cloud, model: Path, data: Path) -> list[object]:
    return [
        *("--task", "sst2", "--model", model, "--data", data, "--server", cloud.server),
        *("--rank", 4, "--batch-size", 8, "--epochs", 2, "--learning-rate", 3e-3),
    ]


def as_published(cloud: Cloud, model: Path, data: Path) -> list[object]:
    """In lockstep, float32, the paper's cut."""
    wire = ("--cut", "sft", "--encoding", "float32", "--micro-batches", 1)
    return [*arguments(cloud, model, data), *wire]


def test_a_run_leaves_metrics_history_and_the_edge_half(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    metrics = train(tmp_path, *arguments(cloud, tiny_model, data), "--unsplit", "--log-every", 2)
    assert KEYS[""] <= set(metrics)
    for part in ("metric", "unsplit", "bytes", "seconds", "peak_rss_bytes"):
        assert set(metrics[part]) == KEYS[part]
    expected = ("sst2", "tiny-bert", "stream", 3, 4, "int4", 12, 2, 48)
    assert tuple(metrics[key] for key in (
        "task", "model", "cut", "split_layer", "rank", "encoding", "steps", "epochs", "examples"
    )) == expected  # fmt: skip
    assert metrics["metric"] == {"name": "accuracy", "value": 1.0}
    assert metrics["unsplit"] == {"name": "accuracy", "value": 1.0}
    seconds = metrics["seconds"]
    parts = seconds["edge"] + seconds["wire"] + seconds["cloud"]
    assert parts == pytest.approx(seconds["total"], abs=0.01)
    assert min(seconds.values()) > 0
    assert 50e6 < metrics["peak_rss_bytes"]["edge"] < 4e9

    lines = history(tmp_path)
    split = [line for line in lines if line["variant"] == "split"]
    assert [line["step"] for line in split if line["kind"] == "step"] == [1, 2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in split if line["kind"] == "evaluation"] == [6, 12]
    assert split[-1]["bytes_up"] <= metrics["bytes"]["up"]
    assert [line["step"] for line in lines if line["variant"] == "unsplit"][-1] == 12

    edge = load_file(tmp_path / "run" / "edge.safetensors")
    assert edge["bert.encoder.layer.2.cut.encoder"].shape == (32, 4)
    assert not any(".layer.3." in name or "classifier" in name for name in edge)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    files = {"metrics.json", "history.jsonl", "job.json", "edge.safetensors", "report.html"}
    assert names == files


def test_the_volume_of_plain_split_learning_is_its_formula(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """Two epochs of 48 and two evaluations of 16, all 9 tokens long with [CLS] and [SEP]."""
    metrics = train_here(tmp_path, *arguments(cloud, tiny_model, data))
    tokens = {GOOD: len(GOOD.split()) + 2, BAD: len(BAD.split()) + 2}
    assert tokens[GOOD] == 9
    padded = 9  # each shuffled batch of 8 holds at least one of the longer sentences
    training, evaluation = 2 * 48 * padded * 32 * 4, 2 * 16 * padded * 32 * 4
    assert metrics["bytes"]["split_learning_up"] == training + evaluation
    assert metrics["bytes"]["split_learning_down"] == training + 2 * 16 * 2 * 4


@pytest.mark.parametrize("cut", ["sft", "none"])
def test_bytes_are_those_on_the_connection(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path, cut: str
) -> None:
    with counting_relay(lambda: cloud.port) as relay:
        line = [str(a) for a in as_published(cloud, tiny_model, data)]
        line[line.index(cloud.server)] = relay.server
        metrics = train_here(tmp_path, *line, "--cut", cut)
    assert metrics["bytes"]["up"] == pytest.approx(relay.up, rel=0.02)
    assert metrics["bytes"]["down"] == pytest.approx(relay.down, rel=0.02)


@pytest.mark.parametrize("encoding", ["float32", "int4"])
def test_a_seed_makes_a_run_repeatable(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path, encoding: str
) -> None:
    """Dropout and rounding are random; another session in between must not matter either."""
    line = [*as_published(cloud, tiny_model, data), "--encoding", encoding]
    for name, seed in (("a", 1), ("other", 2), ("b", 1)):
        train_here(tmp_path, *line, "--seed", seed, "--log-every", 1, name=name)

    def losses(name: str) -> list[float]:
        return [entry["loss"] for entry in history(tmp_path, name)]

    assert losses("a") == losses("b") != losses("other")
    a, b = (load_file(tmp_path / name / "edge.safetensors") for name in ("a", "b"))
    assert all(a[key].equal(b[key]) for key in a)


@pytest.mark.parametrize(
    ("options", "expected", "row_bytes"),
    [
        (("--encoding", "int8"), ("int8", "int8"), (6, 6)),
        (("--encoding", "int4", "--grad-encoding", "bfloat16"), ("int4", "bfloat16"), (4, 8)),
        (("--grad-encoding", "int8"), ("float32", "int8"), (16, 6)),
    ],
)
def test_encodings_learn_and_send_what_they_say(
    cloud: Cloud,
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    expected: tuple[str, str],
    row_bytes: tuple[int, int],
) -> None:
    """Against float32 the messages shrink by exactly the bytes of the rows, here of rank 4."""
    line = [*as_published(cloud, tiny_model, data), "--dropout", 0]
    plain = train_here(tmp_path, *line, name="plain")
    metrics = train_here(tmp_path, *line, *options, name="encoded")
    assert (metrics["encoding"], metrics["gradient_encoding"]) == expected
    assert metrics["metric"]["value"] == 1.0
    training, evaluated = (
        2 * sum(len(row["sentence"].split()) + 2 for row in rows) for rows in (ROWS, ROWS[:16])
    )
    up, down = (plain["bytes"][way] - metrics["bytes"][way] for way in ("up", "down"))
    messages = 2 * (48 // 8 + 16 // 8)
    assert up == pytest.approx((16 - row_bytes[0]) * (training + evaluated), abs=2 * messages)
    assert down == pytest.approx((16 - row_bytes[1]) * training, abs=2 * messages)


def test_micro_batches_change_no_loss(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    line = [*as_published(cloud, tiny_model, data), "--dropout", 0, "--log-every", 1]
    found = []
    for count in (1, 4):
        metrics = train_here(tmp_path, *line, "--micro-batches", count, name=f"{count}")
        found.append([entry["loss"] for entry in history(tmp_path, f"{count}")])
        seconds = metrics["seconds"]
        parts = seconds["edge"] + seconds["wire"] + seconds["cloud"]
        assert parts == pytest.approx(seconds["total"], abs=0.01)
        breakdown = metrics["breakdown"]
        own = sum(breakdown[name] for name in ("edge", "encode", "decode", "idle"))
        assert own == pytest.approx(seconds["total"], abs=0.01)
        assert min(breakdown.values()) >= 0
        assert min(breakdown["edge"], breakdown["cloud"]) > 0
        assert metrics["micro_batches"] == count
    assert len(found[0]) == 14
    assert found[1] == pytest.approx(found[0], abs=1e-5)


def test_plain_split_learning_is_the_unsplit_model_step_by_step(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """Cut none, dropout off: same batches, same head, same arithmetic, so the same losses."""
    line = arguments(cloud, tiny_model, data)
    train_here(tmp_path, *line, "--cut", "none", "--dropout", 0, "--unsplit", "--log-every", 1)
    split, unsplit = (
        [(e["kind"], e["step"], e["loss"]) for e in history(tmp_path) if e["variant"] == variant]
        for variant in ("split", "unsplit")
    )
    assert len(split) == len(unsplit) == 14
    for mine, theirs in zip(split, unsplit, strict=True):
        assert mine == (*theirs[:2], pytest.approx(theirs[2], rel=1e-5))


def test_what_was_trained_is_kept_if_the_cloud_cannot_keep_its_half(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    with running_cloud(tmp_path / "cloud", "--save-dir", tmp_path / "saved") as cloud:
        shutil.rmtree(tmp_path / "saved")
        line = arguments(cloud, tiny_model, data)
        done = edge_here("train", "--runs-dir", tmp_path, "--name", "r", "--quiet", *line)
    assert done.returncode == 1
    assert "could not keep session" in done.stderr and "No such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert metrics["cloud_saved"] is False and metrics["steps"] == 12
    assert (tmp_path / "r" / "edge.safetensors").exists()


def test_json_and_quiet(cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    line = ["train", "--runs-dir", tmp_path, *arguments(cloud, tiny_model, data), "--max-steps", 2]
    done = run("sft-edge", *line, "--name", "j", "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "j" / "metrics.json").read_text())
    assert "split step 2/2" in done.stderr
    done = edge_here(*line, "--name", "q", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "q" / "metrics.json").exists()
    done = edge_here(*line, "--name", "t")
    assert "accuracy, split" in done.stdout and "reduction" in done.stdout
