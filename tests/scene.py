"""One small training, told to one cloud again and again, and the end that it must come to."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.relay import Relay
from tests.processes import history, write_rows
from tests.warm import Forge, Program, RestartedCloud

WORDS = "a lovely quiet room was awful and the tea cold never again but what a film".split()
DRAW = random.Random(5)
ROWS = [
    {"sentence": " ".join(DRAW.choices(WORDS, k=1 + n % 11)), "label": n % 2} for n in range(64)
]
STEPS, LONG = 64, 320


@dataclass
class Scene:
    """The training, its cloud and its runs."""

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

    def writing(self, name: str) -> bool:
        """Return whether a snapshot is being written now, or was when its program was killed."""
        places = [self.runs / name, *self.cloud.sessions.iterdir()]
        return any(any(place.glob("snapshots/.*")) for place in places)

    def wait_until_writing(self, name: str) -> None:
        end = time.monotonic() + 10
        while not self.writing(name) and time.monotonic() < end:
            pass

    def steps(self, name: str) -> list[dict[str, float]]:
        try:
            return history(self.runs, name)
        except (OSError, ValueError):  # not there yet, or half a line
            return []

    def check_same_end(self, name: str, twin: str = "undisturbed") -> None:
        """Check that a run ended as an undisturbed one did, and told the same story."""
        assert self.halves(name) == self.halves(twin), self.said(name)
        told = [(e["kind"], e["step"], e["loss"]) for e in history(self.runs, name)]
        assert told == [(e["kind"], e["step"], e["loss"]) for e in history(self.runs, twin)]


def break_often(relay: Relay, times: int) -> None:
    """Have a run's link cut behind so many bytes, not seconds: as much breaks on any machine.

    Every second cut meets the run where it comes back, the others leave it time for a few steps.
    """
    draw, at = random.Random(3), relay.up
    for cut in range(times):
        at += draw.randrange(100, 1000) if cut % 2 else draw.randrange(2000, 3500)
        relay.events.append((at, relay.cut))


@contextmanager
def new_scene(
    programs: Forge, place: Path, model: Path, *arguments: object, undisturbed: bool = True
) -> Iterator[Scene]:
    """Run a cloud until the block ends, and a training that nothing disturbs, if it is wanted."""
    cloud = RestartedCloud(programs, place / "cloud", "--model", model, *arguments)
    data = write_rows(place / "data", ROWS, ROWS[:8])
    line: list[object] = ["--task", "sst2", "--model", model, "--data", data]
    line += ["--split-layer", 2, "--rank", 4, "--dropout", 0.1, "--learning-rate", 1e-3]
    line += ["--batch-size", 8, "--max-steps", STEPS, "--epochs", LONG // 8, "--log-every", 1]
    line += ["--micro-batches", 2, "--snapshot-every", 3, "--retry-pause", 0.5]
    line += ["--runs-dir", place / "runs"]
    (place / "runs").mkdir()
    scene = Scene(programs, cloud, line, place / "runs")
    if undisturbed:
        assert scene.train("undisturbed").wait() == 0, scene.said("undisturbed")
    yield scene
    cloud.program.kill()
