"""A disk that fills up or tells lies costs a snapshot, never a run."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scene import Scene, new_scene
from tests.warm import Forge, Program

NOTHING_FITS = (0, resource.RLIM_INFINITY)
ALL_FITS = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    with new_scene(programs, tmp_path_factory.mktemp("disk"), tiny_model) as made:
        yield made


def limit(program: Program, limits: tuple[int, int]) -> None:
    """Let a running program write files up to a size; more fails as on a full disk."""
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, limits)


def snapshots_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("snapshots/step-*"))


def session_of(scene: Scene, name: str) -> Path:
    """Return the folder of the one session that is not finished."""
    (found,) = (path for path in scene.cloud.sessions.iterdir() if snapshots_of(path))
    return found


def test_a_full_disk_of_the_cloud_is_told_and_costs_no_step(scene: Scene) -> None:
    name = "cloud-full"
    edge = scene.train(name)
    scene.wait_for_step(name, 10)
    limit(scene.cloud.program, NOTHING_FITS)
    scene.wait_for_step(name, 30)
    limit(scene.cloud.program, ALL_FITS)
    assert edge.wait() == 0, scene.said(name)
    assert "the cloud could not keep the snapshot of step" in scene.said(name)
    assert "File too large" in scene.said(name)
    scene.check_same_end(name)


def test_after_a_full_disk_of_the_cloud_both_go_back_to_what_is_whole(scene: Scene) -> None:
    name = "cloud-full-killed"
    edge = scene.train(name)
    scene.wait_for_step(name, 10)
    limit(scene.cloud.program, NOTHING_FITS)
    scene.wait_for_step(name, 30)
    edge.kill()
    scene.cloud.program.kill()
    scene.cloud.start()
    assert scene.resume(name).wait() == 0, scene.said(name)
    assert "going on behind step" in scene.said(name)
    scene.check_same_end(name)


@pytest.mark.parametrize(
    ("side", "damage"),
    [("edge", "flipped"), ("edge", "cut"), ("cloud", "gone"), ("cloud", "foreign")],
)
def test_a_damaged_snapshot_is_passed_over(scene: Scene, side: str, damage: str) -> None:
    """Both sides read them with the same code, which has unit tests of its own."""
    name = f"{damage}-{side}"
    edge = scene.train(name)
    scene.wait_for_step(name, 20)
    edge.send(signal.SIGTERM)  # when it is killed one side may be a snapshot ahead
    assert edge.wait() == 130, scene.said(name)
    scene.cloud.program.kill()
    places = {"edge": scene.runs / name, "cloud": session_of(scene, name)}
    assert len({snapshots_of(place)[-1].name for place in places.values()}) == 1
    before, newest = snapshots_of(places[side])[-2:]
    file = newest / "weights.safetensors"
    match damage:
        case "flipped":
            data = bytearray(file.read_bytes())
            data[-1] ^= 1
            file.write_bytes(data)
        case "cut":
            file.write_bytes(file.read_bytes()[:-1000])
        case "gone":
            file.unlink()
        case "foreign":
            shutil.copy(before / "weights.safetensors", file)
    scene.cloud.start()
    assert scene.resume(name).wait() == 0, scene.said(name)
    told = scene.said(name) + scene.cloud.log.read_text()
    assert f"the snapshot {newest} " in told, told
    assert "going on behind step" in scene.said(name)
    scene.check_same_end(name)


def test_a_place_that_takes_no_files_is_told_and_costs_no_step(scene: Scene) -> None:
    """A file where the folder of snapshots should be: no rights keep root from writing."""
    name = "no-place"
    edge = scene.train(name, "--snapshot-every", 20)
    scene.wait_for_step(name, 1)
    (scene.runs / name / "snapshots").write_text("in the way")
    assert edge.wait() == 0, scene.said(name)
    assert "cannot write the snapshot" in scene.said(name)
    assert "training goes on without it" in scene.said(name)
    scene.check_same_end(name)
