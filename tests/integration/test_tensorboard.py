"""`--tensorboard` of real runs, undisturbed, killed and frozen, against their histories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boards import points
from tests.processes import edge_here, history
from tests.scene import Scene, new_scene
from tests.warm import Forge


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("tensorboard")
    with new_scene(programs, place, tiny_model, undisturbed=False) as made:
        yield made


def check_board(scene: Scene, name: str, folder: Path) -> None:
    """Check that a log says what the history of its run does, each step once."""
    told, found = history(scene.runs, name), points(folder)
    steps = [entry for entry in told if entry["kind"] == "step"]
    judged = [entry for entry in told if entry["kind"] == "evaluation"]
    for tag, entries, key in (
        ("loss", steps, "loss"),
        ("learning_rate", steps, "learning_rate"),
        ("validation/loss", judged, "loss"),
        ("validation/accuracy", judged, "value"),
    ):
        assert found[tag] == [(e["step"], pytest.approx(e[key], rel=1e-5)) for e in entries], tag
    assert found["bytes/up"][-1][1] > 0 and found["bytes/down"][-1][1] > 0


def test_a_run_is_told_twice(scene: Scene) -> None:
    assert scene.train("whole", "--tensorboard").wait() == 0, scene.said("whole")
    folder = scene.runs / "whole" / "tensorboard"
    check_board(scene, "whole", folder)
    assert len(points(folder)["steps_per_second"]) == len(points(folder)["loss"])


def test_a_killed_edge_goes_on_in_the_same_log(scene: Scene) -> None:
    edge = scene.train("killed", "--tensorboard")
    scene.wait_for_step("killed", 20)
    edge.kill()
    assert scene.resume("killed").wait() == 0, scene.said("killed")
    assert "going on behind step" in scene.said("killed")
    check_board(scene, "killed", scene.runs / "killed" / "tensorboard")


def test_a_killed_cloud_does_not_double_points(scene: Scene, tmp_path: Path) -> None:
    edge = scene.train("gone-back", "--tensorboard", tmp_path / "log")
    scene.wait_for_step("gone-back", 20)
    scene.cloud.program.kill()
    scene.cloud.start()
    assert edge.wait() == 0, scene.said("gone-back")
    assert "the cloud has gone back to step" in scene.said("gone-back")
    check_board(scene, "gone-back", tmp_path / "log")


def test_a_frozen_edge_and_one_that_fetches_later(scene: Scene) -> None:
    frozen = ("--edge", "frozen", "--micro-batches", 1)
    assert scene.train("frozen", *frozen, "--tensorboard").wait() == 0, scene.said("frozen")
    check_board(scene, "frozen", scene.runs / "frozen" / "tensorboard")
    assert scene.train("later", *frozen, "--detach").wait() == 0, scene.said("later")
    line = ("fetch", "--run", scene.runs / "later", "--quiet", "--log-every", 1, "--tensorboard")
    for _ in range(2):  # fetched again, it is told once all the same
        done = edge_here(*line)
        assert done.returncode == 0, done.stderr
    check_board(scene, "later", scene.runs / "later" / "tensorboard")


def test_without_the_package_nothing_is_trained(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = [*scene.line, "--server", scene.cloud.server, "--name", "none", "--tensorboard"]
    done = edge_here("train", *line)
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert "pip install 'sft[tensorboard]'" in message
    assert not (scene.runs / "none").exists()
