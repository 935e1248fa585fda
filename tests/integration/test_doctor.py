"""`sft-edge doctor` against real clouds on real sockets, and against what is none."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from benchmarks.link import Link as Poor
from benchmarks.link import linked
from sft_cloud.access import REFUSAL
from sft_common.errors import AuthenticationError, LimitError, SftError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_common.rpc.access import Access
from sft_common.rpc.options import PROBE_BYTES, SERVICE
from sft_common.rpc.status import error_of
from sft_edge.link import measure_link
from tests.processes import Cloud, edge_here, run, running_cloud

SOON = ("--connect-timeout", 1)

REACHED = {"server", "tls", "health", "login", "protocol", "clock", "room", "link"}


@dataclass(frozen=True)
class Files:
    """What the owner of a cloud has made."""

    folder: Path
    tokens: Path
    token: Path

    @property
    def trust(self) -> tuple[object, ...]:
        return "--tls-ca", self.folder / "ca.pem"

    @property
    def client(self) -> tuple[object, ...]:
        return "--tls-cert", self.folder / "lab.pem", "--tls-key", self.folder / "lab-key.pem"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    place = tmp_path_factory.mktemp("owner")
    assert (
        run(
            "sft-cloud", "certs", "--to", place / "pki", "--host", "a.b", "--client", "lab"
        ).returncode
        == 0
    )
    done = run("sft-cloud", "token", "lab", "--tokens", place / "tokens")
    (place / "token").write_text(done.stdout)
    return Files(place / "pki", place / "tokens", place / "token")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("plain")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def guarded(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Speaks TLS, asks for a client certificate and a token."""
    own = "--tls-cert", files.folder / "server.pem", "--tls-key", files.folder / "server-key.pem"
    asks = "--client-ca", files.folder / "ca.pem", "--tokens", files.tokens
    with running_cloud(tmp_path_factory.mktemp("guarded"), *own, *asks) as cloud:
        yield cloud


def doctor(server: str, *options: object, code: int) -> dict[str, dict[str, Any]]:
    """Run it to an end with a code; returns its findings by the names of the checks."""
    done = edge_here("doctor", "--server", server, "--json", *options)
    assert done.returncode == code, done.stdout
    assert done.stderr == ""
    checks = json.loads(done.stdout)["checks"]
    assert len({check["check"] for check in checks}) == len(checks)
    return {check["check"]: check for check in checks}


def verdicts(checks: dict[str, dict[str, Any]], names: set[str]) -> dict[str, str]:
    return {name: checks[name]["verdict"] for name in names}


def test_a_healthy_pair(plain: Cloud, tiny_model: Path) -> None:
    checks = doctor(plain.server, "--model", tiny_model, code=0)
    assert set(verdicts(checks, REACHED | {"torch", "device", "memory"}).values()) == {"ok"}
    assert "the cloud is on this machine" in checks["tls"]["found"]
    assert f"net1 of {tiny_model} takes" in checks["memory"]["found"]


def test_for_people_it_is_a_line_each_and_what_to_do_below(plain: Cloud) -> None:
    done = edge_here("doctor", "--server", plain.server)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert f"ok       server: {plain.server} answers" in lines
    assert lines[-1].startswith("nothing")
    done = edge_here("doctor", "--server", "127.0.0.1:1", *SOON)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("wrong    server: no cloud"))
    assert "Connection refused" in lines[at]
    assert lines[at + 1] == "         is `sft-cloud serve` running there?"
    assert lines[-1].startswith("1 wrong, ")


def test_all_that_json_says(plain: Cloud) -> None:
    done = edge_here("doctor", "--server", plain.server, "--json")
    facts = json.loads(done.stdout)
    assert facts["wrong"] == 0
    assert facts["cloud"]["greeting"]["free_places"] == 8
    assert abs(facts["cloud"]["clock_ahead_seconds"]) < 5
    assert facts["link"]["up_bytes_per_second"] > 1e5


def test_with_tls_a_certificate_and_a_token(guarded: Cloud, files: Files) -> None:
    shown = (*files.trust, *files.client, "--token-file", files.token)
    checks = doctor(guarded.server, *shown, code=0)
    assert set(verdicts(checks, REACHED | {"client certificate"}).values()) == {"ok"}
    assert "it showed a token and a certificate" in checks["login"]["found"]
    assert "the cloud's certificate for" in checks["tls"]["found"]


def test_what_is_missing_at_the_guarded_door(guarded: Cloud, files: Files) -> None:
    checks = doctor(guarded.server, *SOON, code=1)
    assert "(it speaks TLS)" in checks["server"]["found"]
    assert checks["server"]["advice"].startswith("give --tls-ca FILE")
    checks = doctor(guarded.server, *files.trust, *SOON, code=1)
    assert "(it asks for a certificate)" in checks["server"]["found"]
    assert checks["login"]["verdict"] == "skipped"
    checks = doctor(guarded.server, *files.trust, *files.client, code=1)
    assert checks["health"]["verdict"] == "ok"
    assert checks["login"]["verdict"] == "wrong" and REFUSAL in checks["login"]["found"]
    assert verdicts(checks, {"protocol", "clock", "room", "link"}) == dict.fromkeys(
        ("protocol", "clock", "room", "link"), "skipped"
    )


def test_tls_towards_a_cloud_without(plain: Cloud, files: Files) -> None:
    checks = doctor(plain.server, *files.trust, *SOON, code=1)
    assert "it does not speak TLS" in checks["server"]["found"]
    assert checks["tls"]["verdict"] == "wrong"


def test_options_that_do_not_go_together_stop_no_other_check(files: Files) -> None:
    checks = doctor("cloud.example:50051", "--token-file", files.token, code=1)
    assert "the token would travel" in checks["options"]["found"]
    assert checks["server" if "server" in checks else "health"]["verdict"] == "skipped"
    assert checks["torch"]["verdict"] == "ok"


@pytest.mark.timeout(60)
def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    checks = doctor(f"127.0.0.1:{port}", *SOON, code=1)
    assert "Connection refused" in checks["server"]["found"]
    assert checks["server"]["advice"] == "is `sft-cloud serve` running there?"
    assert checks["link"]["verdict"] == "skipped"


@pytest.mark.timeout(60)
def test_somebody_who_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        checks = doctor(f"127.0.0.1:{silent.getsockname()[1]}", *SOON, code=1)
    assert "does not speak gRPC" in checks["server"]["found"]


class _Web(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_web_server_is_no_cloud() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Web) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            checks = doctor(f"127.0.0.1:{web.server_port}", *SOON, code=1)
        finally:
            web.shutdown()
            thread.join()
    assert "does not speak gRPC" in checks["server"]["found"]


@contextmanager
def stranger(state: health_pb2.HealthCheckResponse.ServingStatus | None) -> Iterator[str]:
    """Run a gRPC server that knows nothing of SFT but, if a state is given, its name."""
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    if state is not None:
        servicer.set(SERVICE, state)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_another_grpc_server_is_no_cloud() -> None:
    with stranger(None) as address:
        checks = doctor(address, *SOON, code=1)
    assert "a gRPC server, but no SFT cloud" in checks["health"]["found"]
    assert checks["login"]["verdict"] == "skipped"


def test_an_older_cloud_does_not_know_the_question() -> None:
    with stranger(health_pb2.HealthCheckResponse.SERVING) as address:
        checks = doctor(address, *SOON, code=1)
    assert checks["health"]["verdict"] == "ok"
    assert "older than this edge" in checks["login"]["found"]


class _Other(pb_grpc.SplitTrainingServiceServicer):
    """Greets as a cloud of another version whose clock is wrong, with bytes nobody asked for."""

    payload = b""

    def Greet(self, request: pb.GreetRequest, context: object) -> pb.GreetResponse:
        size = request.answer_bytes
        return pb.GreetResponse(
            protocol_version=1,
            clock_seconds=time.time() - 90,
            payload=bytes(size) + self.payload,
        )


@contextmanager
def other(greeter: _Other) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    pb_grpc.add_SplitTrainingServiceServicer_to_server(greeter, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_cloud_of_another_version_and_another_time() -> None:
    with other(_Other()) as address:
        checks = doctor(address, code=1)
    assert checks["protocol"]["verdict"] == "wrong"
    assert checks["clock"]["verdict"] == "warning" and "behind this" in checks["clock"]["found"]
    assert checks["room"]["verdict"] == "warning"
    assert checks["link"]["verdict"] == "ok"


def test_a_cloud_that_says_more_than_it_was_asked_is_refused() -> None:
    greeter = _Other()
    greeter.payload = b"x" * 7
    with other(greeter) as address:
        checks = doctor(address, code=1)
    assert "carries 7 bytes, 0 were wanted" in checks["login"]["found"]
    assert checks["link"]["verdict"] == "skipped"


@pytest.mark.timeout(60)
def test_a_cloud_that_stands_still_is_not_waited_for(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        os.kill(cloud.process.pid, signal.SIGSTOP)
        try:
            checks = doctor(cloud.server, *SOON, code=1)
        finally:
            os.kill(cloud.process.pid, signal.SIGCONT)
    assert "wrong" in {checks["server"]["verdict"], checks["health"]["verdict"]}


@pytest.mark.parametrize("mbit", [10, 100])
def test_what_is_measured_is_the_link(plain: Cloud, mbit: float) -> None:
    """Through a relay, at 40 ms; other programs on this machine slow it, and make it uneven."""
    with linked(Poor("", 40, mbit), plain.port) as relay:
        found = measure_link(Access(server=f"127.0.0.1:{relay.port}"))
    assert 0.04 <= found.round_trip_seconds < 0.4
    for rate in (found.up_bytes_per_second, found.down_bytes_per_second):
        assert 0.2 < rate / (mbit * 1e6 / 8) < 1.5


def refused(server: str, request: pb.GreetRequest, *, tls: Files | None = None) -> SftError:
    if tls is None:
        channel = grpc.insecure_channel(server)
    else:
        channel = grpc.secure_channel(
            server,
            grpc.ssl_channel_credentials(
                (tls.folder / "ca.pem").read_bytes(),
                (tls.folder / "lab-key.pem").read_bytes(),
                (tls.folder / "lab.pem").read_bytes(),
            ),
        )
    with channel, pytest.raises(grpc.RpcError) as raised:
        pb_grpc.SplitTrainingServiceStub(channel).Greet(request, timeout=20)
    return error_of(raised.value)


def test_a_greeting_wants_a_token_as_all_calls_do(guarded: Cloud, files: Files) -> None:
    error = refused(guarded.server, pb.GreetRequest(), tls=files)
    assert isinstance(error, AuthenticationError)


@pytest.mark.parametrize(
    "request_",
    [
        pb.GreetRequest(payload=bytes(PROBE_BYTES + 100)),
        pb.GreetRequest(answer_bytes=PROBE_BYTES + 1),
        pb.GreetRequest(answer_bytes=2**32 - 1),
    ],
)
def test_a_greeting_has_bounds(plain: Cloud, request_: pb.GreetRequest) -> None:
    assert isinstance(refused(plain.server, request_), LimitError)
    assert "Traceback" not in plain.log.read_text()
