"""A training over stored examples outlives its edge, its cloud and both; real processes."""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import edge_here, write_rows
from tests.scene import Scene, new_scene
from tests.warm import Forge, RestartedCloud

STEPS = 320
FROZEN = ("--edge", "frozen", "--micro-batches", 1, "--max-steps", STEPS, "--epochs", 40)
SERVED = ("--snapshot-seconds", 0.1)
"""How its cloud is served."""

LEFT = {"session.json", "cloud.safetensors", "training"}
"""What there is of a session whose training has ended."""

OF_THE_FETCHING = {"date", "peak_rss_bytes"}


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("frozen")
    with new_scene(programs, place, tiny_model, *SERVED, undisturbed=False) as made:
        twin = made.train("undisturbed", *FROZEN)
        assert twin.wait() == 0, made.said("undisturbed")
        yield made


def session_of(scene: Scene, name: str) -> Path:
    """Return the folder of a run's session on its cloud."""
    job: dict[str, Any] = json.loads((scene.runs / name / "job.json").read_text())
    return scene.cloud.sessions / job["session_id"]


def restart(scene: Scene) -> None:
    scene.cloud.program.kill()
    scene.cloud.start()


def detached(scene: Scene, name: str, *more: object) -> Path:
    """Have the cloud train alone; returns the folder of its session."""
    assert scene.train(name, *FROZEN, "--detach", *more).wait() == 0, scene.said(name)
    return session_of(scene, name)


def fetched(scene: Scene, name: str) -> dict[str, Any]:
    done = edge_here("fetch", "--run", scene.runs / name, "--log-every", 1, "--json")
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in metrics.items() if name not in OF_THE_FETCHING}


def went_on(scene: Scene, session: Path) -> list[int]:
    """Return the steps at which clouds have taken a session's training up."""
    pattern = rf"training of session {session.name} goes on at step (\d+)"
    return [int(step) for step in re.findall(pattern, scene.cloud.log.read_text())]


def test_a_cloud_that_is_killed_again_and_again_ends_where_it_would_have(scene: Scene) -> None:
    """At any moment, some while it writes a snapshot; the edge follows through all of it."""
    draw, name, half_written = random.Random(7), "killed", 0
    edge = scene.train(name, *FROZEN)
    scene.wait_for_step(name, 1)
    for kill in range(8):
        told = len(scene.steps(name))
        while len(scene.steps(name)) == told and edge.poll() is None:
            time.sleep(0.005)
        if kill % 3 == 2:
            scene.wait_until_writing(name)
        else:
            time.sleep(draw.uniform(0, 0.2))
        scene.cloud.program.kill()
        half_written += scene.writing(name)
        scene.cloud.start()
    assert edge.wait() == 0, scene.said(name)
    assert "trying again" in scene.said(name) and "sending all" not in scene.said(name)
    assert len(set(went_on(scene, session_of(scene, name)))) > 2
    assert half_written, "no kill met a snapshot half written"
    scene.check_same_end(name)
    assert {path.name for path in session_of(scene, name).iterdir()} == LEFT


def test_a_cloud_that_is_stopped_takes_no_step_twice(scene: Scene) -> None:
    name = "stopped"
    edge = scene.train(name, *FROZEN)
    scene.wait_for_step(name, 20)
    scene.cloud.program.send(signal.SIGTERM)
    assert scene.cloud.program.wait() == 0
    last = max(int(entry["step"]) for entry in scene.steps(name))
    (kept,) = sorted(session_of(scene, name).glob("snapshots/step-*"))[-1:]
    assert int(kept.name.removeprefix("step-")) >= last
    scene.cloud.start()
    assert edge.wait() == 0, scene.said(name)
    assert "the cloud is stopping; it keeps the session" in scene.said(name)
    assert went_on(scene, session_of(scene, name)) == [int(kept.name.removeprefix("step-"))]
    scene.check_same_end(name)


def test_nobody_needs_to_be_there(scene: Scene) -> None:
    """Neither while the cloud is killed nor when it ends; and its end is known to the next one."""
    name = "left"
    session = detached(scene, name)
    for _ in range(2):
        time.sleep(0.5)
        restart(scene)
    first = fetched(scene, name)
    assert went_on(scene, session)
    scene.check_same_end(name)
    restart(scene)
    assert fetched(scene, name) == first
    scene.check_same_end(name)
    assert {path.name for path in session.iterdir()} == LEFT
    done = edge_here("predict", "--run", scene.runs / name, "a lovely quiet room")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("moment", ["sends", "follows"])
def test_an_edge_that_was_killed_is_resumed(scene: Scene, moment: str) -> None:
    name = f"edge-{moment}"
    edge = scene.train(name, *FROZEN, *(["--batch-size", 1] if moment == "sends" else []))
    if moment == "follows":
        scene.wait_for_step(name, 5)
    else:
        while not (scene.runs / name / "run.json").exists():
            time.sleep(0.001)
    edge.kill()
    assert (scene.runs / name / "job.json").exists() == (moment == "follows")
    assert scene.resume(name).wait() == 0, scene.said(name)
    if moment == "follows":
        scene.check_same_end(name)
    assert scene.resume(name).wait() == 1
    assert "has come to its end" in scene.said(name)


def test_damage_on_the_cloud_costs_time_and_nothing_else(scene: Scene) -> None:
    """A snapshot has one before it; examples are sent again."""
    for file, said in (
        ("snapshots/step-*/weights.safetensors", None),
        ("examples.bin", "its files are damaged; sending all examples again"),
        ("training/begun/snapshot.json", "sending all examples again"),
    ):
        name = f"damaged-{file[:8]}"
        edge = scene.train(name, *FROZEN)
        scene.wait_for_step(name, 20)
        scene.cloud.program.kill()
        damaged = sorted(session_of(scene, name).glob(file))[-1]
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 0xFF
        damaged.write_bytes(data)
        scene.cloud.start()
        assert edge.wait() == 0, scene.said(name)
        assert ("sending all" in scene.said(name)) == (said is not None)
        assert said is None or said in scene.said(name)
        scene.check_same_end(name)


def test_trainings_wait_for_room_and_a_deleted_one_for_nothing(scene: Scene) -> None:
    """More of them than the next cloud has places."""
    names = ("one", "two", "three")
    edges = [scene.train(name, *FROZEN, "--detach") for name in names]
    assert [edge.wait() for edge in edges] == [0, 0, 0]
    scene.cloud.program.kill()
    small = RestartedCloud(scene.programs, scene.cloud.folder, "--max-sessions", 1, *SERVED)
    end = time.monotonic() + 60
    while len(waiting := waiting_for_room(small)) < 2:
        assert time.monotonic() < end, small.log.read_text()
        time.sleep(0.02)
    (gone,) = (name for name in names if session_of(scene, name).name == max(waiting))
    line = ["sessions", "delete", max(waiting), "--yes", "--save-dir", small.sessions]
    assert scene.programs.start("sft-cloud", line, small.log).wait() == 0
    for name in names:
        line = ["fetch", "--run", scene.runs / name, "--server", small.server, "--log-every", 1]
        done = edge_here(*line)
        if name == gone:
            assert done.returncode == 1 and "this cloud has no training" in done.stderr
            assert not session_of(scene, name).exists()
        else:
            assert done.returncode == 0, done.stderr
            scene.check_same_end(name)
    small.program.kill()
    scene.cloud.start()


def waiting_for_room(cloud: RestartedCloud) -> set[str]:
    """Return the sessions whose trainings have waited for room."""
    return set(re.findall(r"training of session (\w+) waits: ", cloud.log.read_text()))


def test_a_cloud_that_keeps_nothing_is_sent_all_again(
    programs: Forge, tiny_model: Path, tmp_path: Path
) -> None:
    with new_scene(programs, tmp_path, tiny_model, "--no-save", undisturbed=False) as scene:
        edge = scene.train("again", *FROZEN)
        scene.wait_for_step("again", 20)
        restart(scene)
        assert edge.wait() == 0, scene.said("again")
        assert "sending all examples again" in scene.said("again")
        told = [int(entry["step"]) for entry in scene.steps("again") if entry["kind"] == "step"]
        assert told == list(range(1, STEPS + 1))


def test_a_training_that_fails_says_so_ever_after(scene: Scene, tmp_path: Path) -> None:
    """And does not go on with every start of the cloud."""
    name = "diverged"
    rows = [{"sentence1": "good", "sentence2": "bad", "label": n % 5} for n in range(24)]
    rows[7]["label"] = 1e30  # its square is no float32 any more
    data = write_rows(tmp_path / "data", rows, rows[:4])
    session = detached(scene, name, "--task", "stsb", "--data", data)
    for _ in range(2):
        done = edge_here("fetch", "--run", scene.runs / name, "--quiet")
        assert done.returncode == 1
        assert re.search(r"the loss is \w+ at step \d+; choose a lower", done.stderr), done.stderr
        restart(scene)
    assert {path.name for path in session.iterdir()} == {"session.json", "training"}


def test_a_disk_that_takes_the_examples_but_not_the_training_is_told_before_it_begins(
    scene: Scene,
) -> None:
    limits, name = resource.prlimit(scene.cloud.program.pid, resource.RLIMIT_FSIZE), "full"
    resource.prlimit(scene.cloud.program.pid, resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert scene.train(name, *FROZEN).wait() == 1
    finally:
        resource.prlimit(scene.cloud.program.pid, resource.RLIMIT_FSIZE, limits)
    pattern = "the cloud's disk does not take the training: .*File too large"
    assert re.search(pattern, scene.said(name)), scene.said(name)
    assert not session_of(scene, name).exists()
    assert scene.resume(name).wait() == 0, scene.said(name)
    scene.check_same_end(name)
