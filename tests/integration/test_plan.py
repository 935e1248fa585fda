"""`sft-edge plan` and `train --auto` against a real cloud on a real socket."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_common.commandline import Stopped
from sft_common.config import SessionSpec, SplitSpec
from sft_common.errors import SftError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_edge.channel import connect
from sft_edge.client import GrpcSession
from sft_edge.greeting import greet
from sft_edge.planner import cloud_rehearsal
from sft_edge.planner.cloud_rehearsal import Measured, rehearse_cloud
from tests.models import save_tiny_model
from tests.processes import Cloud, edge_here, running_cloud, write_rows
from tests.scene import Scene, new_scene
from tests.warm import Forge

ROWS = [{"sentence": "a quiet room " * (1 + n % 4), "label": n % 2} for n in range(64)]

ANY_LOSS = ("--max-accuracy-loss", 100)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cloud keeps sessions."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(
        tmp_path_factory.mktemp("images") / "tiny-vit", "vit", head="image-classification"
    )


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of so many words that its logits are larger than what goes up."""
    folder = tmp_path_factory.mktemp("words") / "tiny-gpt2"
    return save_tiny_model(folder, "gpt2", head="causal-lm", vocab_size=4096)


@pytest.fixture(scope="module")
def cloud(kept: Path, tiny_model: Path, vit: Path, gpt2: Path) -> Iterator[Cloud]:
    models = [word for model in (tiny_model, vit, gpt2) for word in ("--model", model)]
    with running_cloud(kept.parent / "plan-cloud", "--save-dir", kept, *models) as running:
        yield running


@pytest.fixture(scope="module")
def what(cloud: Cloud, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options that name a task, its data and the cloud."""
    data = write_rows(tmp_path_factory.mktemp("data") / "rows", ROWS, ROWS[:8])
    line: list[object] = ["--task", "sst2", "--model", tiny_model, "--data", data]
    return [*line, "--server", cloud.server, "--batch-size", 8]


def planned(*arguments: object) -> dict[str, Any]:
    done = edge_here("plan", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_command_of_the_best_plan_trains_as_planned(
    what: list[object], kept: Path, tmp_path: Path
) -> None:
    found = planned(*what, *ANY_LOSS, "--labels", "edge", "--cut", "sft", "--encoding", "int8")
    assert not any(path.is_dir() for path in kept.iterdir())  # nothing of the sessions is left
    best = found["plans"][0]
    assert {plan["cut"] for plan in found["plans"]} == {"sft"}
    assert {plan["split_layer"] for plan in found["plans"]} == {1, 2, 3, 4}
    program, *words = shlex.split(found["command"])
    assert program == "sft-edge"
    short = ("--max-steps", 2, "--json", "--runs-dir", tmp_path, "--learning-rate", 0)
    done = edge_here(*words, *short)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["labels_on"] == "edge" and metrics["batch_size"] == 8
    for name in ("cut", "split_layer", "rank", "encoding"):
        assert metrics[name] == best[name]
    assert metrics["gradient_encoding"] == "int8"


def test_what_was_measured_can_be_planned_with_again(what: list[object], tmp_path: Path) -> None:
    scene = tmp_path / "scene.toml"
    done = edge_here("plan", *what, "--save", scene, "--top", 3)
    assert done.returncode == 0, done.stderr
    assert "the link" in done.stderr and "the cloud" in done.stderr
    assert "the whole model on the edge:" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("sft-edge train --task sst2 --model")
    again = edge_here("plan", "--from", scene, "--task", "sst2", "--top", 3)
    assert again.returncode == 0, again.stderr
    table, same = (each.stdout.splitlines()[1:-1] for each in (done, again))
    assert same == table  # but for the batch's line and the command
    most = planned("--from", scene, *ANY_LOSS, "--top", 1)
    assert {plan["split_layer"] for plan in most["plans"]} == {1, 2, 3, 4}


def test_a_model_alone_is_planned_for_with_batches_of_the_size_named(
    cloud: Cloud, tiny_model: Path, vit: Path
) -> None:
    line = ("--server", cloud.server, *ANY_LOSS, "--cut", "none", "--encoding", "float32")
    found = planned("--model", tiny_model, *line, "--batch-size", 4, "--tokens", 16)
    assert found["plain_split_learning"]["bytes_each_way"] == 4 * 16 * 32 * 4
    assert "--task TASK" in found["command"]
    images = planned("--model", vit, *line, "--batch-size", 4)
    assert images["plans"][0]["bytes_up"] > 4 * 4 * 32 * 4


def rehearsed(
    cloud: Cloud, model: Path, batches: list[tuple[int, ...]], *, head: str, keeps_labels: bool
) -> Measured:
    """Measure a cloud with a model's cuts in block 3 and 1; messages have at most a megabyte."""
    pretrained = Pretrained(model, num_labels=2, head=head)
    spec = SessionSpec(
        model=pretrained.identity(str(model)),
        split=SplitSpec(cut="stream", split_layer=1, rank=4),
        head=head,
        num_labels=pretrained.classes or 2,
    )
    shape = shape_of(pretrained.config)

    def open_one(spec: SessionSpec, **more: Any) -> GrpcSession:
        access = Access(server=cloud.server)
        return GrpcSession(access, spec, shape, max_message_bytes=2**20, **more)

    return rehearse_cloud(
        open_one,
        spec,
        shape,
        (3, 1),
        batches,
        prepared=False,
        keeps_labels=keeps_labels,
    )


def test_the_logits_of_a_language_model_come_down_only_where_its_labels_stay(
    cloud: Cloud, gpt2: Path
) -> None:
    """Those of 256 tokens are 4 MB."""
    batches = [(32,) * 8]
    found = rehearsed(cloud, gpt2, batches, head="causal-lm", keeps_labels=False)
    assert found.top.forward.of(256) > 0 and found.top.backward.of(256) > 0
    with pytest.raises(SftError, match="over the limit of 1,048,576"):
        rehearsed(cloud, gpt2, batches, head="causal-lm", keeps_labels=True)


def test_a_plan_that_is_stopped_leaves_nothing_on_the_cloud(
    cloud: Cloud, kept: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, take = [], cloud_rehearsal._Steps.take

    def stopped_at_the_third(steps: Any, parts: Any) -> Any:
        taken.append(parts)
        if len(taken) == 3:
            signal.raise_signal(signal.SIGTERM)
        return take(steps, parts)

    before = free_places(cloud), sorted(kept.iterdir())
    monkeypatch.setattr(cloud_rehearsal._Steps, "take", stopped_at_the_third)
    with pytest.raises(Stopped, match="keeps nothing"):
        rehearsed(cloud, tiny_model, [(5, 3)], head="sequence-classification", keeps_labels=False)
    assert len(taken) == 3 and (free_places(cloud), sorted(kept.iterdir())) == before


def free_places(cloud: Cloud) -> int:
    channel = connect(Access(server=cloud.server))
    try:
        return greet(channel, 10).free_places
    finally:
        channel.close()


def test_a_run_finds_its_own_cut_and_goes_on_with_it(
    programs: Forge, tiny_model: Path, tmp_path: Path
) -> None:
    with new_scene(programs, tmp_path, tiny_model, undisturbed=False) as scene:
        free = {"--split-layer", "--rank", "--micro-batches"}
        pairs = zip(scene.line[::2], scene.line[1::2], strict=True)
        line = [word for pair in pairs if pair[0] not in free for word in pair]
        auto = Scene(programs, scene.cloud, line, scene.runs)
        running = auto.train("auto", "--auto", *ANY_LOSS, "--cut", "stream", "--max-steps", 60)
        auto.wait_for_step("auto", 5)
        running.send(signal.SIGTERM)
        running.wait()
        chosen = json.loads((scene.runs / "auto" / "run.json").read_text())["options"]
        assert auto.resume("auto").wait() == 0, auto.said("auto")
        assert auto.said("auto").count("this device: steps of net1 alone") == 1
        metrics = json.loads((scene.runs / "auto" / "metrics.json").read_text())
    forecast = metrics["forecast"]
    assert forecast["seconds"] > 0 and forecast["cut"] == metrics["cut"] == "stream"
    for name in ("split_layer", "rank", "encoding"):
        assert metrics[name] == forecast[name] == chosen[name]
    assert chosen["micro_batches"] == forecast["micro_batches"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan",), "--model or --task is needed"),
        (("plan", "--split-layer", 9, "--task", "sst2"), "split layer 9 is outside 1..4"),
        (("plan", "--memory", 1e-6, "--task", "sst2"), "no plan fits into memory"),
        (("plan", "--grad-encoding", "int4", "--task", "sst2"), "one encoding for both ways"),
        (("plan", "--tokens", 5, "--task", "sst2"), "--tokens is for a plan without a --task"),
        (("train", "--auto", "--edge", "frozen", "--task", "sst2"), "--auto is for a trained edge"),
        (
            ("plan", "--cut", "stream", "--rank", 1, "--encoding", "int4", "--task", "sst2"),
            "no plan is known to lose at most 1 points of accuracy",
        ),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_line(
    what: list[object], arguments: tuple[object, ...], said: str
) -> None:
    task = what.index("--task")
    rest = [*what[:task], *what[task + 2 :]]
    if "--task" not in arguments:
        rest = []
    done = edge_here(*arguments, *rest)
    assert done.returncode in (1, 2) and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_cut_that_is_not_there_is_refused_before_anything_is_measured(
    cloud: Cloud, tiny_model: Path
) -> None:
    line = ("--server", cloud.server, "--model", tiny_model, "--split-layer", 9)
    done = edge_here("plan", *line)
    assert done.returncode == 1 and "split layer 9 is not one of 1..4" in done.stderr
    assert "the link" not in done.stderr


def test_a_cloud_that_is_not_there_is_named(what: list[object]) -> None:
    done = edge_here("plan", *what, "--server", "127.0.0.1:1", "--connect-timeout", 0.5)
    assert done.returncode == 1 and "no cloud answers at 127.0.0.1:1" in done.stderr
