"""A frozen edge: every example goes up once, the cloud trains alone. Two real processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.relay import counting_relay
from sft_common.config import SplitSpec
from sft_common.model.loading import Pretrained, set_edge_factor
from sft_common.model.tokenizer import load_tokenizer
from sft_common.plan import Plan, planned_steps
from sft_common.wire.codec import tensor_from_proto, tensor_to_proto
from sft_common.wire.packing import pack
from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.table import TASKS
from sft_edge.tasks.texts import classified, tokenized
from tests.doubles import open_session
from tests.models import save_tiny_model
from tests.processes import (
    Cloud,
    edge_here,
    history,
    running_cloud,
    train_here,
    write_rows,
)
from tests.warm import Forge, RestartedCloud

GOOD, BAD = "a lovely quiet room", "the food was awful and poor"
ROWS = [
    {"sentence": f"{GOOD if n % 2 else BAD} {'very ' * (n % 4)}".strip(), "label": n % 2}
    for n in range(48)
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    place = tmp_path_factory.mktemp("cloud")
    saved = ("--save-dir", place / "saved", "--allow-export")
    with running_cloud(place, *saved, "--max-sessions", 2) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data"), ROWS, ROWS[:14])


def line(cloud: Cloud, model: Path, data: Path, **changes: object) -> list[object]:
    options = {
        "task": "sst2",
        "model": model,
        "data": data,
        "server": cloud.server,
        "edge": "frozen",
        "split-layer": 2,
        "rank": 8,
        "epochs": 3,
        "batch-size": 8,
        "learning-rate": 5e-3,
        "log-every": 1,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def test_it_learns_and_each_example_goes_up_once(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    metrics = train_here(tmp_path, *line(cloud, tiny_model, data, cut="stream"))
    assert metrics["metric"]["value"] == 1.0
    assert (metrics["edge"], metrics["steps"], metrics["cloud_saved"]) == ("frozen", 18, True)
    lines = history(tmp_path)
    assert [entry["step"] for entry in lines if entry["kind"] == "step"] == list(range(1, 19))
    assert [entry["step"] for entry in lines if entry["kind"] == "evaluation"] == [6, 12, 18]

    longer = train_here(tmp_path, *line(cloud, tiny_model, data, cut="stream", epochs=9), name="9")
    assert longer["steps"] == 54
    assert longer["bytes"]["up"] == pytest.approx(metrics["bytes"]["up"], rel=0.3)
    assert longer["bytes"]["split_learning_up"] > 2.5 * metrics["bytes"]["split_learning_up"]


@pytest.mark.parametrize(("grouped", "encoding"), [(False, "float32"), (True, "int8")])
def test_its_steps_are_those_of_a_live_edge_that_does_not_move(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path, grouped: bool, encoding: str
) -> None:
    """Against the same session driven in this process; the dropout of the cloud is on."""
    grouping = ["--group-by-length"] if grouped else []
    changes = {"cut": "sft", "seed": 3, "encoding": encoding}
    train_here(tmp_path, *line(cloud, tiny_model, data, **changes), *grouping)
    split = SplitSpec(split_layer=2, rank=8)
    session, u = open_session(tiny_model, split, seed=3)
    pretrained = Pretrained(tiny_model, num_labels=2)
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1)
    assert u is not None
    set_edge_factor(net1, u)
    net1.eval()
    rows = read_rows_of(TASKS["sst2"], data, train_limit=None, eval_limit=None)
    examples = tokenized(classified(rows.task, rows.train), load_tokenizer(tiny_model, 64), 64)
    plan = Plan(epochs=3, batch_size=8, learning_rate=5e-3, seed=3, group_by_length=grouped)
    expected = []
    for step, _, chosen, rate, _ in planned_steps(plan, examples.all_lengths()):
        batch = examples.batch(chosen)
        with torch.no_grad():
            activation = pack(net1(batch.inputs), batch.mask)
        sent = tensor_to_proto(activation, encoding)
        activation = tensor_from_proto(sent, tuple(activation.shape), "activation", encoding)
        expected.append(session.step(step, activation, batch.lengths, batch.labels)[0].item())
        session.apply(step, rate)
    losses = [entry["loss"] for entry in history(tmp_path) if entry["kind"] == "step"]
    # Padding is another one here and there, so not to the last bit.
    assert losses == pytest.approx(expected, rel=1e-5)
    kept = load_file(tmp_path / "run" / "edge.safetensors")
    for name, parameter in net1.skeleton.named_parameters():
        assert torch.equal(kept[name], parameter), name


def test_an_edge_may_leave_when_all_is_sent(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    whole = train_here(tmp_path, *line(cloud, tiny_model, data), name="stays")
    done = edge_here(
        *("train", "--runs-dir", tmp_path, "--name", "leaves", "--detach"),
        *line(cloud, tiny_model, data),
    )
    assert done.returncode == 0, done.stderr
    assert f"sft-edge fetch --run {tmp_path / 'leaves'}" in done.stdout
    assert not (tmp_path / "leaves" / "metrics.json").exists()
    seconds = []
    for _ in range(2):  # as often as one likes
        done = edge_here("fetch", "--run", tmp_path / "leaves", "--log-every", 1, "--json")
        assert done.returncode == 0, done.stderr
        metrics = json.loads(done.stdout)
        assert metrics["metrics"] == whole["metrics"]
        assert metrics["validation_loss"] == whole["validation_loss"]
        assert metrics["bytes"]["up"] == pytest.approx(whole["bytes"]["up"], abs=100)
        seconds.append(metrics["seconds"])
        told = [entry["loss"] for entry in history(tmp_path, "leaves")]
        assert told == [entry["loss"] for entry in history(tmp_path, "stays")]
    assert seconds[0] == seconds[1]  # the time that the edge was away is nobody's
    parts = [seconds[0][name] for name in ("edge", "wire", "cloud")]
    assert parts[0] > 0 and parts[2] > 0  # a wire this short may round to nothing
    assert sum(parts) == pytest.approx(seconds[0]["total"], abs=0.01)  # each is rounded


def test_an_edge_that_is_killed_while_it_watches_loses_nothing(
    programs: Forge, cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    arguments = line(cloud, tiny_model, data, epochs=100)
    named = ("--runs-dir", tmp_path, "--name", "dies")
    edge = programs.start("sft-edge", ["train", *named, *arguments], tmp_path / "log")
    told = tmp_path / "dies" / "history.jsonl"
    deadline = time.monotonic() + 60
    while not (told.is_file() and told.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    edge.kill()
    assert not (tmp_path / "dies" / "metrics.json").exists()
    done = edge_here("fetch", "--run", tmp_path / "dies", "--quiet")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "dies" / "metrics.json").read_text())
    assert metrics["steps"] == 600
    done = edge_here("predict", "--run", tmp_path / "dies", GOOD)
    assert done.stdout.startswith("positive"), done.stderr


@pytest.mark.parametrize(
    ("task", "family", "kind"),
    [
        ("stsb", "bert", "regression"),
        ("squad", "bert", "question-answering"),
        ("token-classification", "bert", "token-classification"),
        ("causal-lm", "gpt2", "causal-lm"),
    ],
)
def test_every_kind_of_label_can_be_stored(
    cloud: Cloud, tmp_path: Path, task: str, family: str, kind: str
) -> None:
    model = save_tiny_model(tmp_path / "model", family, head=kind)
    data = write_rows(tmp_path / "data", *[rows_of(task)] * 2)
    arguments = line(cloud, model, data, task=task, max_length=24, epochs=1, cut="stream")
    metrics = train_here(tmp_path, *arguments)
    assert metrics["steps"] >= 1
    first = {"stsb": "spearman", "squad": "f1", "causal-lm": "perplexity"}.get(task, "f1")
    assert metrics["metric"]["name"] == first


def rows_of(task: str) -> list[dict[str, Any]]:
    match task:
        case "stsb":
            return [{"sentence1": GOOD, "sentence2": BAD, "label": n % 5 / 2} for n in range(16)]
        case "squad":
            answers = {"text": ["quiet"], "answer_start": [GOOD.index("quiet")]}
            return [{"id": "1", "question": "is it", "context": GOOD, "answers": answers}] * 9
        case "token-classification":
            words = GOOD.split()
            return [{"tokens": words, "tags": ["O", "O", "B-X", "I-X"]}] * 9
        case _:
            return [{"text": f"{GOOD} and {BAD}"}] * 16


def test_a_full_cache_and_a_full_cloud_are_refused(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    with running_cloud(tmp_path / "cloud", "--cache-limit", 0.001, "--max-sessions", 1) as small:
        rows = write_rows(tmp_path / "many", ROWS * 400, ROWS)
        arguments = line(small, tiny_model, rows, rank=32, batch_size=200)
        done = edge_here("train", "--quiet", "--runs-dir", tmp_path, *arguments)
        assert done.returncode == 1
        assert "the examples take more than the 0.00 GB that this cloud keeps" in done.stderr
        arguments = line(small, tiny_model, data, epochs=2000)
        done = edge_here("train", "--detach", "--runs-dir", tmp_path, "--name", "long", *arguments)
        assert done.returncode == 0, done.stderr
        done = edge_here("train", "--quiet", "--runs-dir", tmp_path, *line(small, tiny_model, data))
        assert "has 1 of 1 sessions open" in done.stderr


def test_what_does_not_go_together_is_refused(
    cloud: Cloud, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    arguments = line(cloud, tiny_model, data)
    live = ["trained" if part == "frozen" else part for part in arguments]
    for words, message in (
        (["train", "--detach", *live], "--detach goes with --edge frozen"),
        (["train", "--detach", "--unsplit", *arguments], "--unsplit trains here afterwards"),
        (["train", "--labels", "edge", *arguments], "--labels edge is for a trained edge"),
        (["fetch", "--run", tmp_path / "no"], "there is no run"),
    ):
        done = edge_here(*words, *(["--runs-dir", tmp_path] if words[0] == "train" else []))
        assert done.returncode == 1 and message in done.stderr, done.stderr
    train_here(tmp_path, *live, "--max-steps", 1, name="live")
    done = edge_here("fetch", "--run", tmp_path / "live")
    assert "is not the run of a frozen edge" in done.stderr
    facts = json.loads((tmp_path / "live" / "job.json").read_text())
    (tmp_path / "live" / "job.json").write_text(
        json.dumps(facts | {"frozen": {"bytes_up": 1, "bytes_down": 1, "total_steps": 1}})
    )
    done = edge_here("fetch", "--run", tmp_path / "live")
    assert "this cloud has no training of session" in done.stderr
    nobody = ("--server", "localhost:1", "--connect-timeout", 1)
    done = edge_here("fetch", "--run", tmp_path / "live", *nobody)
    assert "no cloud answers at localhost:1: tried for 1 s" in done.stderr


@pytest.mark.parametrize("part", ["cut", "killed"])
def test_what_breaks_while_it_sends_changes_nothing(
    programs: Forge, tiny_model: Path, data: Path, tmp_path: Path, part: str
) -> None:
    """A link that is cut again and again; a cloud that is killed and has lost all examples."""
    cloud = RestartedCloud(programs, tmp_path / "cloud")

    def restart() -> None:
        cloud.program.kill()
        cloud.start()

    with counting_relay(lambda: cloud.port) as relay:
        cuts = [(4000 + 1500 * n, relay.cut) for n in range(12)]
        relay.events += cuts if part == "cut" else [(4000, restart)]
        ends = []
        for name, server in (("undisturbed", cloud.server), ("disturbed", relay.server)):
            options = line(cloud, tiny_model, data, server=server, batch_size=1, epochs=1)
            log = tmp_path / f"{name}.log"
            where = ("--runs-dir", tmp_path, "--name", name, "--retry-pause", 0.5)
            edge = programs.start("sft-edge", ["train", *options, *where], log)
            assert edge.wait() == 0, log.read_text()
            job = json.loads((tmp_path / name / "job.json").read_text())
            ends.append(cloud.half(job["session_id"]))
        assert not relay.events
        said = (tmp_path / "disturbed.log").read_text()
        assert said.count("trying again") > (3 if part == "cut" else 0), said
        assert ends[0] == ends[1]
    cloud.program.kill()
