"""A cloud is looked after: metrics, logs, health, status, sessions that are deleted for good."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client.parser import text_string_to_metric_families

from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, ForbiddenError, ModelError, SessionLostError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.pb.sft.v1 import operations_pb2 as pb
from sft_common.pb.sft.v1 import operations_pb2_grpc as pb_grpc
from sft_common.plan import Plan
from sft_common.rpc.access import Access
from sft_common.rpc.options import SERVICE
from sft_edge.calls import follow_training
from sft_edge.client import GrpcSession
from sft_edge.traffic import Traffic
from tests.processes import edge_here
from tests.warm import Forge, RestartedCloud

T = TypeVar("T")


@dataclass
class Scene:
    """A cloud, and the model that its sessions are of."""

    programs: Forge
    cloud: RestartedCloud
    spec: SessionSpec
    shape: ModelShape
    place: Path

    @property
    def access(self) -> Access:
        return Access(server=self.cloud.server, connect_seconds=20)

    def session(self, steps: int = 0, **changes: Any) -> GrpcSession:
        """Open a session and train it."""
        session = GrpcSession(self.access, self.spec, self.shape, **changes)
        for step in range(1, steps + 1):
            session.begin_step(step, torch.zeros(3, 4), [2, 1], [0, 1])
            session.end_step()
            session.apply(step, 1e-3)
        return session

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return name and label values -> value."""
        found = text_string_to_metric_families(self.scraped())
        return {
            (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in found
            for sample in family.samples
        }

    def scraped(self) -> str:
        port = (self.place / "metrics-port").read_text().strip()
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return str(answer.read(), "utf-8")

    def ask(self, *arguments: object, code: int = 0) -> str:
        """Return what `sft-cloud` says of this cloud, or, if it fails, its one line."""
        return self.say(*arguments, "--save-dir", self.cloud.sessions, code=code)

    def say(self, *arguments: object, code: int = 0) -> str:
        said = self.place / "said"
        said.unlink(missing_ok=True)
        program = self.programs.start("sft-cloud", arguments, said)
        assert program.wait() == code, said.read_text()
        text = said.read_text()
        assert not code or (text.startswith("sft-cloud: ") and len(text.splitlines()) == 1), text
        return text

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("status", "--json"))
        return found

    def listed(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self.ask("sessions", "list", "--json"))
        return {session["session_id"]: session for session in found}

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the log, what `serve` prints left out."""
        lines = self.cloud.log.read_text().splitlines()
        return [json.loads(line) for line in lines if not line.startswith("sft-cloud ")]

    def left_of(self, session_id: str) -> list[Path]:
        """Return whatever in the save folder has to do with a session."""
        while True:
            with contextlib.suppress(FileNotFoundError):  # deleted while we look
                return [
                    path
                    for path in list(self.cloud.sessions.rglob("*"))
                    if session_id in str(path)
                    or (path.is_file() and session_id.encode() in path.read_bytes())
                ]


def until(condition: Callable[[], T]) -> T:
    """Return what is true in the end."""
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("operations")
    port = ("--metrics-port", 0, "--metrics-port-file", place / "metrics-port")
    more = ("--log-format", "json", "--no-reflection", "--model", tiny_model)
    cloud = RestartedCloud(programs, place / "cloud %", *port, *more)
    pretrained = Pretrained(tiny_model, num_labels=2)
    spec = SessionSpec(
        model=pretrained.identity("tiny-bert"), split=SplitSpec(split_layer=2, rank=4), num_labels=2
    )
    yield Scene(programs, cloud, spec, shape_of(pretrained.config), place)
    cloud.program.kill()


def test_metrics_tell_what_was_done(scene: Scene) -> None:
    before = scene.metrics()
    session = scene.session(steps=3)
    session.begin_evaluation(torch.zeros(3, 4), [2, 1])
    session.end_evaluation()
    at_work = scene.metrics()
    session.close()
    with pytest.raises(ModelError):
        GrpcSession(scene.access, replaced(scene.spec, name="no/such"), scene.shape)
    after = scene.metrics()

    def grown(name: str, *labels: str) -> float:
        return after[name, labels] - before.get((name, labels), 0.0)

    assert grown("sft_steps_total") == grown("sft_micro_batches_total") == 3
    assert grown("sft_step_seconds_count", "queue") == 3
    assert grown("sft_step_seconds_sum", "compute") > 0
    assert grown("sft_evaluations_total") == 1
    assert grown("sft_sessions_opened_total") == grown("sft_sessions_closed_total") == 1
    assert grown("sft_errors_total", "NOT_FOUND", "ModelError") == 1
    assert grown("sft_received_bytes_total") > 0 and grown("sft_sent_bytes_total") > 0
    assert at_work["sft_sessions", ("at_work",)] == before["sft_sessions", ("at_work",)] + 1
    assert grown("sft_sessions", "finished") == 1
    assert session.session_id not in scene.scraped()


def replaced(spec: SessionSpec, **changes: str) -> SessionSpec:
    from dataclasses import replace

    return replace(spec, model=replace(spec.model, **changes))


def test_log_lines_name_session_and_step_and_cannot_be_forged(scene: Scene) -> None:
    forged = 'x\n{"time": "now", "level": "INFO", "message": "all is well"}\r\x1b[2J'
    with pytest.raises(ConfigError):
        GrpcSession(scene.access, replaced(scene.spec, name=forged), scene.shape)
    session = scene.session(steps=2)
    session.begin_step(9, torch.zeros(3, 4), [2, 1], [0, 1])
    with pytest.raises(Exception, match="step 9 came, step 3 was expected"):
        session.end_step()
    session.abandon()

    def refused() -> list[dict[str, Any]]:
        return [line for line in scene.log() if "step 9 came" in line["message"]]

    [line] = until(refused)
    assert (line["session"], line["step"], line["error"]) == (
        session.session_id,
        9,
        "ProtocolError",
    )
    assert not any(line["message"] == "all is well" for line in scene.log())
    about = [line for line in scene.log() if session.session_id in line["message"]]
    assert about and all(line["session"] == session.session_id for line in about)


def test_status_is_a_table_or_json(scene: Scene) -> None:
    session = scene.session(steps=2)
    until(lambda: scene.status()["sessions_in_memory"])
    status = scene.status()
    assert status["address"] == scene.cloud.server and not status["draining"]
    [found] = [s for s in status["sessions"] if s["session_id"] == session.session_id]
    assert (found["state"], found["model"], found["cut"], found["rank"], found["steps"]) == (
        "at_work",
        "tiny-bert",
        "sft",
        4,
        2,
    )
    assert found["received_bytes"] > 0 and found["sent_bytes"] > 0 and found["memory_bytes"] > 0
    head, *rest = scene.ask("status", "--once").splitlines()
    assert f"serving on {scene.cloud.server}" in head
    [row] = [line for line in rest if line.startswith(session.session_id)]
    assert "at work" in row and "sft:2 rank 4" in row
    assert scene.say("status", "--admin-socket", scene.cloud.sessions / ".admin.sock", "--once")
    session.close()


def test_status_follows_on_a_terminal(scene: Scene) -> None:
    # Whoever starts the tests in the background has SIGINT ignored by all that they start.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    line = heard + "import sys; from sft_cloud.cli import main; main(sys.argv[1:])"
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-c", line, "status", "--save-dir", str(scene.cloud.sessions)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    while shown.count(b"serving on") < 3:
        shown += os.read(ours, 65536)
    watching.send_signal(signal.SIGINT)
    while b"interrupted" not in shown:
        shown += os.read(ours, 65536)
    assert watching.wait(timeout=30) == 130
    os.close(ours)


def test_the_admin_socket_is_the_owners_alone(scene: Scene) -> None:
    socket = scene.cloud.sessions / ".admin.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    assert scene.cloud.sessions.stat().st_mode & 0o777 == 0o700
    with grpc.insecure_channel(scene.cloud.server) as channel:
        stub: Any = pb_grpc.OperationsServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.ListSessions(pb.ListSessionsRequest(), timeout=20)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_reflection_is_off_where_it_is_not_wanted(scene: Scene) -> None:
    with grpc.insecure_channel(scene.cloud.server) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            list(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_a_live_session_is_deleted_and_its_edge_is_told(scene: Scene) -> None:
    session = scene.session(steps=2)
    session.keep(2)
    name = session.session_id
    until(lambda: scene.left_of(name))
    assert scene.ask("sessions", "delete", name, "--yes") == f"{name} deleted\n"
    with pytest.raises(ForbiddenError, match=f"session {name} was deleted by the owner"):
        session.begin_step(3, torch.zeros(3, 4), [2, 1], [0, 1])
        session.end_step()
    session.abandon()
    assert not scene.left_of(name) and name not in scene.listed()
    with pytest.raises(SessionLostError, match=f"this cloud has no session {name}"):
        scene.session(takes_up=name)
    said = scene.ask("sessions", "delete", name, "--yes", code=1)
    assert "there is no session" in said


def test_a_session_that_writes_without_end_is_deleted_all_the_same(scene: Scene) -> None:
    """Whatever it is writing at that moment."""
    for _ in range(3):
        session = scene.session()
        with pytest.raises(ForbiddenError, match="deleted"):
            deleting = None
            for step in range(1, 10_000):
                session.begin_step(step, torch.zeros(3, 4), [2, 1], [0, 1])
                session.end_step()
                session.apply(step, 1e-3)
                session.keep(step)
                if step == 5:
                    line = ["sessions", "delete", session.session_id, "--yes"]
                    line += ["--save-dir", str(scene.cloud.sessions)]
                    deleting = scene.programs.start("sft-cloud", line, scene.place / "deleting")
        session.abandon()
        assert deleting is not None and deleting.wait() == 0
        assert not scene.left_of(session.session_id)


def test_a_training_without_its_edge_is_deleted(scene: Scene) -> None:
    session = scene.session()
    session.store(0, torch.zeros(3, 4), [2, 1], [0, 1])
    session.run(Plan(epochs=10_000, batch_size=1, learning_rate=1e-3, seed=0))
    session.abandon()
    name = session.session_id
    assert scene.listed()[name]["state"] == "training"
    events = follow_training(scene.access, name, Traffic())
    next(events)
    scene.ask("sessions", "delete", name, "--yes")
    with pytest.raises(ForbiddenError, match=f"session {name} was deleted"):
        for _ in events:
            pass
    assert name not in scene.listed()


def test_sessions_are_deleted_by_owner_and_age_or_not_at_all(scene: Scene) -> None:
    """Without a terminal nobody is asked, and nothing is deleted."""
    names = []
    for _ in range(2):
        names.append((session := scene.session(steps=1)).session_id)
        assert session.park()
    assert scene.listed()[names[0]]["state"] == "parked"
    assert "give --yes" in scene.ask("sessions", "delete", *names, code=1)
    assert "no session fits" in scene.ask("sessions", "delete", "--owner", "nobody", "--yes")
    assert "no session fits" in scene.ask("sessions", "delete", "--older-than", 1, "--yes")
    assert names[0] in scene.listed()
    said = scene.ask("sessions", "delete", *names, "--owner", "", "--older-than", 0, "--yes")
    assert said == "".join(f"{name} deleted\n" for name in sorted(names))
    assert not any(map(scene.left_of, names))


def test_a_killed_cloud_leaves_a_socket_that_is_no_hindrance(scene: Scene) -> None:
    session = scene.session(steps=1)
    name = session.session_id
    session.park()
    scene.cloud.program.kill()
    assert (scene.cloud.sessions / ".admin.sock").exists()
    assert "no cloud answers at" in scene.ask("status", code=1)
    assert scene.listed()[name]["state"] == "parked"
    scene.cloud.start()
    assert scene.status()["sessions_in_memory"] == 0
    other = scene.say("serve", "--cpu", "--port", 0, "--save-dir", scene.cloud.sessions, code=1)
    assert "another sft-cloud works on --save-dir" in other
    assert scene.status()["uptime_seconds"] > 0  # nobody took its socket away
    scene.ask("sessions", "delete", name, "--yes")


def test_sessions_that_nobody_touches_are_forgotten(scene: Scene, tiny_model: Path) -> None:
    """Those in memory and finished ones are not."""
    line = ("--model", tiny_model, "--forget-after", 1e-5)
    cloud = RestartedCloud(scene.programs, scene.place / "forgetful", *line)
    other = Scene(scene.programs, cloud, scene.spec, scene.shape, scene.place)
    finished, live = other.session(steps=1), other.session(steps=1)
    finished.close()
    live.keep(1)
    until(lambda: other.left_of(live.session_id))
    parked = other.session(steps=1)
    assert parked.park()
    until(lambda: not other.left_of(parked.session_id))
    assert other.left_of(finished.session_id) and other.left_of(live.session_id)
    until(lambda: f"session {parked.session_id} forgotten" in cloud.log.read_text())
    live.abandon()
    cloud.program.kill()


def test_a_path_too_long_for_a_socket_is_a_warning(scene: Scene, tiny_model: Path) -> None:
    cloud = RestartedCloud(scene.programs, scene.place / ("long" * 25), "--model", tiny_model)
    other = Scene(scene.programs, cloud, scene.spec, scene.shape, scene.place)
    other.session(steps=1).close()
    assert "no admin socket: the path" in cloud.log.read_text()
    assert "no cloud runs there" in other.ask("status", code=1)
    assert "another sft-cloud works on" in other.ask("sessions", "list", code=1)
    cloud.program.send(signal.SIGTERM)
    assert cloud.program.wait() == 0
    assert len(other.listed()) == 1


def test_a_place_that_is_not_to_be_had_is_one_clear_line(scene: Scene) -> None:
    port = int((scene.place / "metrics-port").read_text())
    serve = ("serve", "--cpu", "--port", 0)
    said = scene.say(*serve, "--no-save", "--metrics-port", port, code=1)
    assert f"port {port} on 127.0.0.1 is in use by another program" in said
    said = scene.say(*serve, "--no-save", "--admin-socket", "/no/such/place", code=1)
    assert "there is no folder /no/such" in said
    said = scene.say("status", "--save-dir", scene.place / "nowhere", code=1)
    assert "no cloud runs there" in said and "nowhere/.admin.sock" in said
    assert "there is no such folder" in scene.say(
        "sessions", "list", "--save-dir", scene.place / "nowhere", code=1
    )


HELD = """
import sys, time
from pathlib import Path
from sft_cloud.cli import main
from sft_cloud.store import Store
note = Store.note
def held(store, record):
    while Path(sys.argv[1]).exists():
        time.sleep(0.01)
    note(store, record)
Store.note = held
main(sys.argv[2:])
"""


def test_a_cloud_that_drains_is_not_serving(scene: Scene, tiny_model: Path, tmp_path: Path) -> None:
    """A real process, held in the midst of putting a session away."""
    hold, port, script = tmp_path / "hold", tmp_path / "port", tmp_path / "held.py"
    hold.touch()
    script.write_text(HELD)
    line = [hold, "serve", "--cpu", "--port", 0, "--port-file", port, "--model", tiny_model]
    held = scene.programs.script(tmp_path, script, *line, "--save-dir", tmp_path / "s")
    try:
        until(port.exists)
        access = Access(server=f"127.0.0.1:{port.read_text().strip()}", connect_seconds=20)
        session = GrpcSession(access, scene.spec, scene.shape)
        session.begin_step(1, torch.zeros(3, 4), [2, 1], [0, 1])
        session.end_step()
        with grpc.insecure_channel(access.server) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", SERVICE)]

            def states() -> set[int]:
                return {stub.Check(request, timeout=20).status for request in requests}

            assert states() == {health_pb2.HealthCheckResponse.SERVING}
            held.terminate()
            not_serving = {health_pb2.HealthCheckResponse.NOT_SERVING}
            until(lambda: states() == not_serving)
            status = scene.say("status", "--save-dir", tmp_path / "s", "--json")
            assert json.loads(status)["draining"]
            done = edge_here("doctor", "--server", access.server, "--json")
            checks = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
            assert done.returncode == 1
            assert "NOT_SERVING: it drains" in checks["health"]["found"]
            assert checks["room"]["found"] == "the cloud drains and takes no session"
            assert checks["link"]["verdict"] == "ok"
            with pytest.raises(Exception, match="the cloud is stopping; it keeps the session"):
                GrpcSession(access, scene.spec, scene.shape)
            assert states() == not_serving and held.poll() is None
        hold.unlink()
        session.abandon()
        said = held.said()
    finally:
        held.kill()
    assert re.search(r"INFO session [0-9a-f]{16} left memory after 0 steps", said)
