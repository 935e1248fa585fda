"""Sessions that wait, come back, give way and change hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import (
    CapacityError,
    ConfigError,
    ForbiddenError,
    RetryLaterError,
    SessionLostError,
)
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_edge.calls import fetch_trained, follow_training
from sft_edge.client import GrpcSession
from sft_edge.retrying import Retry
from sft_edge.traffic import Traffic
from tests.processes import run, train_here, write_rows
from tests.scene import ROWS, new_scene
from tests.warm import Forge, RestartedCloud

PATIENT = Retry(for_seconds=60, first_seconds=0.1, most_seconds=0.2)
ROWS_T4, LENGTHS, LABELS = torch.ones(3, 4), [2, 1], [0, 1]

Open = Callable[..., GrpcSession]


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> SessionSpec:
    identity = Pretrained(tiny_model, num_labels=2).identity(str(tiny_model))
    return SessionSpec(
        model=identity, split=SplitSpec(cut="sft", split_layer=2, rank=4), num_labels=2
    )


@pytest.fixture(scope="module")
def shape(tiny_model: Path) -> ModelShape:
    return shape_of(Pretrained(tiny_model, num_labels=2).config)


@pytest.fixture
def cloud(programs: Forge, tmp_path: Path) -> Iterator[RestartedCloud]:
    """A cloud for two sessions that puts away what is idle for half a second."""
    running = RestartedCloud(
        programs, tmp_path / "cloud", "--max-sessions", 2, "--park-after", 0.5, "--snapshots", 2
    )
    yield running
    running.program.kill()


@pytest.fixture
def opened(cloud: RestartedCloud, spec: SessionSpec, shape: ModelShape) -> Iterator[Open]:
    sessions = []

    def open_one(retry: Retry = PATIENT, **wanted: object) -> GrpcSession:
        access = Access(server=cloud.server)
        sessions.append(GrpcSession(access, spec, shape, retry=retry, **wanted))  # type: ignore[arg-type]
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.abandon()


def take_step(session: GrpcSession, number: int) -> float:
    session.begin_step(number, ROWS_T4, LENGTHS, LABELS)
    loss = session.end_step()[0]
    session.apply(number, 1e-2)
    return loss


def wait_for(cloud: RestartedCloud, words: str) -> None:
    end = time.monotonic() + 30
    while words not in cloud.log.read_text():
        assert time.monotonic() < end, cloud.log.read_text()
        time.sleep(0.02)


def test_an_idle_session_is_put_away_and_comes_back_as_it_was(
    cloud: RestartedCloud, opened: Open
) -> None:
    """In the middle of a step: its gradients and its reply come back too."""
    alone = opened()
    expected = [take_step(alone, number) for number in (1, 2, 3)]
    alone.close()
    session = opened()
    assert take_step(session, 1) == expected[0]
    session.begin_step(2, ROWS_T4, LENGTHS, LABELS)
    assert session.end_step()[0] == expected[1]
    wait_for(cloud, f"session {session.session_id} left memory")
    session.apply(2, 1e-2)
    assert take_step(session, 3) == expected[2]
    assert session.close() == (3, True)
    assert "resumed at step 1" in cloud.log.read_text()


def test_an_idle_session_survives_the_cloud_that_put_it_away(
    cloud: RestartedCloud, opened: Open
) -> None:
    session = opened()
    take_step(session, 1)
    session.begin_step(2, ROWS_T4, LENGTHS, LABELS)
    wait_for(cloud, f"session {session.session_id} left memory")
    cloud.program.kill()
    cloud.start()
    session.end_step()
    session.apply(2, 1e-2)
    assert session.close().steps == 2


def test_who_has_gone_gives_way_to_who_comes(cloud: RestartedCloud, opened: Open) -> None:
    gone, there = opened(), opened()
    take_step(gone, 1)
    gone.stream.close()
    newcomer = opened()
    for session in (newcomer, there):
        take_step(session, 1)
    assert f"session {gone.session_id} left memory" in cloud.log.read_text()
    busy = threading.Event()

    def keep_busy() -> None:
        number = 1
        while not busy.wait(0.05):
            number += 1
            for session in (newcomer, there):
                take_step(session, number)

    working = threading.Thread(target=keep_busy)
    working.start()
    impatient = Retry(for_seconds=1, first_seconds=0.1, most_seconds=0.2)
    with pytest.raises(CapacityError, match="has 2 of 2 sessions open"):
        opened(retry=impatient)
    leaving = threading.Timer(1.0, lambda: (busy.set(), working.join(), newcomer.close()))
    leaving.start()
    take_step(gone, 2)  # waits for the place of the newcomer
    leaving.join()
    assert gone.close().steps == 2


def test_a_train_command_waits_for_room_if_asked_to(
    programs: Forge, spec: SessionSpec, shape: ModelShape, tiny_model: Path, tmp_path: Path
) -> None:
    cloud = RestartedCloud(programs, tmp_path / "cloud", "--max-sessions", 1)
    there = GrpcSession(Access(server=cloud.server), spec, shape)
    leaving = threading.Timer(2.0, there.close)
    leaving.start()
    data = write_rows(tmp_path / "data", ROWS, ROWS[:8])
    line = ["--task", "sst2", "--model", tiny_model, "--data", data, "--server", cloud.server]
    metrics = train_here(tmp_path / "runs", *line, "--rank", 4, "--max-steps", 2, "--wait", 60)
    leaving.join()
    cloud.program.kill()
    assert metrics["steps"] == 2


def test_the_newest_program_has_the_session_and_an_older_one_has_lost_it(
    cloud: RestartedCloud, opened: Open
) -> None:
    older = opened()
    take_step(older, 1)
    older.keep(1)
    take_step(older, 2)
    older.begin_evaluation(ROWS_T4, LENGTHS)
    older.end_evaluation()
    newer = opened(takes_up=older.session_id, snapshots=lambda: [1])
    assert newer.rewound_to == 1
    with pytest.raises(ForbiddenError, match="taken up by another"):
        take_step(older, 3)
    older.stream._stream = older.stream._connect()
    older.stream.close()
    with pytest.raises(ForbiddenError, match="taken up by another program"):
        take_step(older, 3)
    take_step(newer, 2)
    assert newer.close().steps == 2


def test_what_is_said_after_the_end_is_said_again(cloud: RestartedCloud, opened: Open) -> None:
    """The answer to close was lost on its way; the cloud was even restarted since."""
    session = opened()
    take_step(session, 1)
    assert session.close() == (1, True)
    cloud.program.kill()
    cloud.start()
    assert session.close() == (1, True)


def test_a_session_of_another_training_is_not_taken_up(
    cloud: RestartedCloud, opened: Open, spec: SessionSpec, shape: ModelShape
) -> None:
    session = opened()
    take_step(session, 1)
    for name, words in (("0" * 16, "has no session 0000"), ("../../etc/x", "no name of a session")):
        with pytest.raises(SessionLostError, match=words):
            opened(takes_up=name)
    with pytest.raises(SessionLostError, match="no snapshot of session .* that the edge has too"):
        opened(takes_up=session.session_id, snapshots=lambda: [7])


def test_without_snapshots_a_lost_cloud_means_to_begin_anew(
    programs: Forge, tiny_model: Path, tmp_path: Path
) -> None:
    with new_scene(programs, tmp_path, tiny_model, "--no-save") as scene:
        edge = scene.train("anew")
        scene.wait_for_step("anew", 20)
        scene.cloud.program.kill()
        scene.cloud.start()
        assert edge.wait() == 0, scene.said("anew")
        assert "beginning anew" in scene.said("anew")
        ends = [
            (scene.runs / name / "edge.safetensors").read_bytes()
            for name in ("undisturbed", "anew")
        ]
        assert ends[0] == ends[1]


def test_a_session_is_its_owners_alone(
    programs: Forge, spec: SessionSpec, shape: ModelShape, tmp_path: Path
) -> None:
    """In memory, on disk and when it has ended: to others it does not exist."""
    tokens = tmp_path / "tokens"
    shown = {}
    for name in ("hospital", "stranger"):
        made = run("sft-cloud", "token", name, "--tokens", tokens)
        shown[name] = made.stdout.strip()
    cloud = RestartedCloud(programs, tmp_path / "cloud", "--tokens", tokens, "--allow-export")

    def session_of(name: str, **wanted: Any) -> GrpcSession:
        access = Access(server=cloud.server, token=shown[name])
        return GrpcSession(access, spec, shape, retry=PATIENT, **wanted)

    def check_strangers_get_nothing(session_id: str) -> None:
        with pytest.raises(SessionLostError, match=f"this cloud has no session {session_id}"):
            session_of("stranger", takes_up=session_id, snapshots=lambda: [1])
        session_of("stranger", replaces=session_id).close()  # deletes nothing of others
        stranger = Access(server=cloud.server, token=shown["stranger"])
        with pytest.raises(ConfigError, match="no session|not trained yet"):
            fetch_trained(stranger, session_id, tmp_path / "stolen")
        with pytest.raises(SessionLostError, match="no training of session"):
            list(follow_training(stranger, session_id, Traffic()))
        with pytest.raises(ConfigError, match="no session|not trained yet"):
            session_of("stranger", trained_session=session_id)

    session = session_of("hospital")
    name = session.session_id
    take_step(session, 1)
    session.keep(1)
    check_strangers_get_nothing(name)
    assert session.park()
    check_strangers_get_nothing(name)
    session = session_of("hospital", takes_up=name, snapshots=lambda: [1])
    assert session.rewound_to == 1
    assert session.close() == (1, True)
    check_strangers_get_nothing(name)
    owner = Access(server=cloud.server, token=shown["hospital"])
    fetch_trained(owner, name, tmp_path / "own")
    assert (tmp_path / "own").stat().st_size > 1000
    session_of("hospital", trained_session=name).close()
    cloud.program.kill()


def test_a_cloud_that_stops_takes_nobody_in(cloud: RestartedCloud, opened: Open) -> None:
    session = opened(retry=Retry(for_seconds=0))
    take_step(session, 1)
    cloud.program.send(15)  # SIGTERM
    with pytest.raises(RetryLaterError, match="the cloud is stopping; it keeps the session"):
        for number in range(2, 10_000):
            take_step(session, number)
    assert cloud.program.wait() == 0
