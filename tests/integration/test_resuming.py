"""Plugs are pulled: a run ends with the very model that an undisturbed one ends with."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.relay import counting_relay
from tests.scene import LONG, STEPS, Scene, break_often, new_scene
from tests.warm import Forge


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    with new_scene(programs, tmp_path_factory.mktemp("resuming"), tiny_model) as made:
        yield made


def test_a_run_repeats_to_the_bit(scene: Scene) -> None:
    """What all else here stands on."""
    again = scene.train("again")
    assert again.wait() == 0
    scene.check_same_end("again")


def test_a_link_that_breaks_again_and_again_loses_nothing_and_repeats_nothing(
    scene: Scene,
) -> None:
    """The cloud answers again what it has computed before: no step of it is taken twice."""
    name = "cut"
    with counting_relay(lambda: scene.cloud.port) as relay:
        break_often(relay, 12)
        edge = scene.train(name, server=relay.server)
        assert edge.wait() == 0, scene.said(name)
        assert not relay.events
    assert "gone back" not in scene.said(name) and "anew" not in scene.said(name)
    assert scene.said(name).count("the cloud is back") > 4, scene.said(name)
    seconds = json.loads((scene.runs / name / "metrics.json").read_text())["seconds"]
    assert all(value > 0 for value in seconds.values()), seconds
    scene.check_same_end(name)


def test_a_killed_cloud_costs_a_few_steps(scene: Scene) -> None:
    edge = scene.train("cloud-killed")
    scene.wait_for_step("cloud-killed", 20)
    scene.cloud.program.kill()
    scene.cloud.start()
    assert edge.wait() == 0, scene.said("cloud-killed")
    assert "the cloud has gone back to step" in scene.said("cloud-killed")
    scene.check_same_end("cloud-killed")


def test_a_killed_edge_is_resumed(scene: Scene) -> None:
    edge = scene.train("edge-killed")
    scene.wait_for_step("edge-killed", 20)
    edge.kill()
    assert scene.resume("edge-killed").wait() == 0, scene.said("edge-killed")
    assert "going on behind step" in scene.said("edge-killed")
    scene.check_same_end("edge-killed")


def test_both_killed_is_a_restart_of_the_machine(scene: Scene) -> None:
    edge = scene.train("both-killed")
    scene.wait_for_step("both-killed", 20)
    edge.kill()
    scene.cloud.program.kill()
    scene.cloud.start()
    assert scene.resume("both-killed").wait() == 0, scene.said("both-killed")
    scene.check_same_end("both-killed")


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
    scene.check_same_end("stopped")


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
    scene.check_same_end(name)


def test_labels_kept_here_change_nothing_of_this(scene: Scene) -> None:
    """A link that breaks, a cloud that is stopped and killed, an edge that is killed.

    Most of it meets passes whose backward has not come; the twin sent its labels.
    """
    draw, name, kept = random.Random(4), "kept", ("--labels", "edge", "--micro-batches", 4)
    twin = scene.train("four", "--micro-batches", 4)
    assert twin.wait() == 0, scene.said("four")
    with counting_relay(lambda: scene.cloud.port) as relay:
        break_often(relay, 5)
        edge = scene.train(name, *kept, server=relay.server)
        scene.wait_for_step(name, 1)
        for stop in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            scene.wait_for_step(name, scene.steps(name)[-1]["step"] + 2)
            time.sleep(draw.uniform(0, 0.2))
            scene.cloud.program.send(stop)
            scene.cloud.program.wait()
            scene.cloud.start()
        scene.wait_for_step(name, scene.steps(name)[-1]["step"] + 2)
        edge.kill()
        assert scene.resume(name).wait() == 0, scene.said(name)
    said = scene.said(name)
    assert said.count("the cloud is back") > 1 and said.count("has gone back to step") == 1, said
    scene.check_same_end(name, "four")


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
        if kill % 5 == 4:
            scene.wait_until_writing(name)
        if victim != "cloud":
            edge.kill()
        if victim != "edge":
            scene.cloud.program.kill()
        half_written += scene.writing(name)
        if victim != "edge":
            scene.cloud.start()
        if victim != "cloud":
            begun = (scene.runs / name / "run.json").exists()
            edge = scene.resume(name) if begun else scene.train(name, *long)
    assert edge.wait() == 0, scene.said(name)
    scene.check_same_end(name, "undisturbed-long")
    resumed = re.findall(r"going on behind step (\d+)", scene.said(name))
    gone_back = re.findall(r"the cloud has gone back to step (\d+)", scene.said(name))
    assert len(set(resumed)) > 2 and len(set(gone_back)) > 2, (resumed, gone_back)
    assert half_written, "no kill met a snapshot half written"
