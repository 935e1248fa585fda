"""Plugs are pulled: a run ends with the very model that an undisturbed one ends with."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import history, write_rows
from tests.warm import Forge, Program, RestartedCloud, forge

WORDS = "a lovely quiet room was awful and the tea cold never again but what a film".split()
DRAW = random.Random(5)
ROWS = [
    {"sentence": " ".join(DRAW.choices(WORDS, k=1 + n % 11)), "label": n % 2} for n in range(64)
]
STEPS, LONG = 64, 320


@pytest.fixture(scope="module")
def programs() -> Iterator[Forge]:
    with forge() as running:
        yield running


@dataclass
class Scene:
    """One training, told to one cloud again and again."""

    programs: Forge
    cloud: RestartedCloud
    line: list[object]
    runs: Path

    def train(self, name: str, *more: object, server: str = "") -> Program:
        line = ["train", *self.line, "--server", server or self.cloud.server, "--name", name]
        return self.programs.start("sft-edge", [*line, *more], self.runs / f"{name}.log")

    def resume(self, name: str, *more: object) -> Program:
        line = ["train", "--resume", self.runs / name, *more]
        return self.programs.start("sft-edge", line, self.runs / f"{name}.log")

    def halves(self, name: str) -> tuple[bytes, bytes]:
        """Return what a finished run has trained, on both sides."""
        job = json.loads((self.runs / name / "job.json").read_text())
        return (self.runs / name / "edge.safetensors").read_bytes(), self.cloud.half(
            job["session_id"]
        )

    def said(self, name: str) -> str:
        return (self.runs / f"{name}.log").read_text()

    def wait_for_step(self, name: str, step: int) -> None:
        """Wait until a run's history tells of a step."""
        end = time.monotonic() + 60
        while not any(entry["step"] >= step for entry in self.steps(name)):
            assert time.monotonic() < end, self.said(name)
            time.sleep(0.01)

    def steps(self, name: str) -> list[dict[str, float]]:
        try:
            return history(self.runs, name)
        except (OSError, ValueError):  # not there yet, or half a line
            return []


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A cloud, and the result of an undisturbed run."""
    place = tmp_path_factory.mktemp("resuming")
    cloud = RestartedCloud(programs, place / "cloud", "--model", tiny_model, "--grace", 20)
    data = write_rows(place / "data", ROWS, ROWS[:8])
    line: list[object] = ["--task", "sst2", "--model", tiny_model, "--data", data]
    line += ["--split-layer", 2, "--rank", 4, "--dropout", 0.1, "--learning-rate", 1e-3]
    line += [
        "--batch-size",
        8,
        "--max-steps",
        STEPS,
        "--epochs",
        LONG // 8,
        "--micro-batches",
        2,
        "--log-every",
        1,
    ]
    line += ["--snapshot-every", 3, "--retry-pause", 0.5, "--runs-dir", place / "runs"]
    (place / "runs").mkdir()
    scene = Scene(programs, cloud, line, place / "runs")
    undisturbed = scene.train("undisturbed")
    assert undisturbed.wait() == 0, scene.said("undisturbed")
    yield scene
    cloud.program.kill()


def same_end(scene: Scene, name: str, twin: str = "undisturbed") -> None:
    """Check that a run came to the same end as an undisturbed one, and told the same story."""
    assert scene.halves(name) == scene.halves(twin), scene.said(name)
    told = [(e["kind"], e["step"], e["loss"]) for e in history(scene.runs, name)]
    assert told == [(e["kind"], e["step"], e["loss"]) for e in history(scene.runs, twin)]


def test_a_run_repeats_to_the_bit(scene: Scene) -> None:
    """What all else here stands on."""
    again = scene.train("again")
    assert again.wait() == 0
    same_end(scene, "again")


def test_a_killed_cloud_costs_a_few_steps(scene: Scene) -> None:
    edge = scene.train("cloud-killed")
    scene.wait_for_step("cloud-killed", 20)
    scene.cloud.program.kill()
    scene.cloud.start()
    assert edge.wait() == 0, scene.said("cloud-killed")
    assert "the cloud has gone back to step" in scene.said("cloud-killed")
    same_end(scene, "cloud-killed")


def test_a_killed_edge_is_resumed(scene: Scene) -> None:
    edge = scene.train("edge-killed")
    scene.wait_for_step("edge-killed", 20)
    edge.kill()
    assert scene.resume("edge-killed").wait() == 0, scene.said("edge-killed")
    assert "going on behind step" in scene.said("edge-killed")
    same_end(scene, "edge-killed")


def test_both_killed_is_a_restart_of_the_machine(scene: Scene) -> None:
    edge = scene.train("both-killed")
    scene.wait_for_step("both-killed", 20)
    edge.kill()
    scene.cloud.program.kill()
    scene.cloud.start()
    assert scene.resume("both-killed").wait() == 0, scene.said("both-killed")
    same_end(scene, "both-killed")


def test_a_stopped_cloud_puts_sessions_away_and_loses_no_step(scene: Scene) -> None:
    edge = scene.train("stopped")
    scene.wait_for_step("stopped", 20)
    scene.cloud.program.send(signal.SIGTERM)
    assert scene.cloud.program.wait() == 0
    assert scene.cloud.log.read_text().endswith("sft-cloud stopped\n")
    scene.cloud.start()
    assert edge.wait() == 0, scene.said("stopped")
    assert "the cloud is stopping; it keeps the session" in scene.said("stopped")
    assert "gone back" not in scene.said("stopped")
    same_end(scene, "stopped")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_edge_says_how_to_go_on(scene: Scene, number: signal.Signals) -> None:
    name = f"edge-{number.name}"
    edge = scene.train(name)
    scene.wait_for_step(name, 20)
    edge.send(number)
    assert edge.wait() == 130
    last = scene.said(name).splitlines()[-1]
    assert last.startswith("sft-edge: stopped; go on behind step "), last
    assert last.endswith(f"of {STEPS} with: sft-edge train --resume {scene.runs / name}")
    assert scene.resume(name).wait() == 0, scene.said(name)
    same_end(scene, name)


def test_twenty_kills_at_random_moments(scene: Scene) -> None:
    """Edge, cloud or both: most while they train and write snapshots, some while they come back."""
    draw, name, long = random.Random(11), "twenty", ("--max-steps", LONG)
    twin = scene.train("undisturbed-long", *long)
    assert twin.wait() == 0, scene.said("undisturbed-long")
    edge, half_written = scene.train(name, *long), 0
    for kill in range(20):
        if kill % 4:
            told = len(scene.steps(name))
            while len(scene.steps(name)) == told and edge.poll() is None:
                time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.8))
        victim = ("edge", "cloud", "both")[kill % 3]
        if victim != "cloud":
            edge.kill()
        if victim != "edge":
            scene.cloud.program.kill()
        snapshots = [scene.runs / name, *scene.cloud.sessions.iterdir()]
        half_written += any(list(place.glob("snapshots/.*")) for place in snapshots)
        if victim != "edge":
            scene.cloud.start()
        if victim != "cloud":
            begun = (scene.runs / name / "run.json").exists()
            edge = scene.resume(name) if begun else scene.train(name, *long)
    assert edge.wait() == 0, scene.said(name)
    same_end(scene, name, "undisturbed-long")
    resumed = re.findall(r"going on behind step (\d+)", scene.said(name))
    gone_back = re.findall(r"the cloud has gone back to step (\d+)", scene.said(name))
    assert len(set(resumed)) > 2 and len(set(gone_back)) > 2, (resumed, gone_back)
    assert half_written, "no kill met a snapshot half written"
