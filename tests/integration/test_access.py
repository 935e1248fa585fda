"""Who may come in: TLS, client certificates and tokens, with real processes on real sockets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from sft_cloud.access import REFUSAL
from sft_common.errors import AuthenticationError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_common.rpc.options import SERVICE
from sft_common.rpc.status import error_of
from tests.processes import Cloud, edge_here, run, running_cloud, write_rows

ROWS = [{"sentence": "a lovely room" if n % 2 else "awful tea", "label": n % 2} for n in range(8)]

SOON = ("--connect-timeout", 0.5)
"""Where the cloud will not be reached, however long one tries."""

Edge = Callable[..., str]
"""Runs `sft-edge train` and returns what it says: nothing if all went well."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the owner of a cloud has made."""

    folder: Path
    tokens: Path
    token: Path
    """The file of the edge "lab"."""

    @property
    def secret(self) -> str:
        return self.token.read_text().strip()

    @property
    def server(self) -> tuple[object, ...]:
        return "--tls-cert", self.folder / "server.pem", "--tls-key", self.folder / "server-key.pem"

    @property
    def trust(self) -> tuple[object, ...]:
        return "--tls-ca", self.folder / "ca.pem"

    @property
    def client(self) -> tuple[object, ...]:
        return "--tls-cert", self.folder / "lab.pem", "--tls-key", self.folder / "lab-key.pem"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    place = tmp_path_factory.mktemp("owner")
    done = run("sft-cloud", "certs", "--to", place / "pki", "--host", "a.b", "--client", "lab")
    assert done.returncode == 0, done.stderr
    token = place / "token"
    token.write_text(new_token(place / "tokens", "lab"))
    return Files(folder=place / "pki", tokens=place / "tokens", token=token)


def new_token(tokens: Path, name: str) -> str:
    done = run("sft-cloud", "token", name, "--tokens", tokens)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tls(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Speaks TLS, lets everyone in."""
    folder = tmp_path_factory.mktemp("tls")
    with running_cloud(folder, *files.server, "--save-dir", folder / "kept") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def guarded(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Asks for a client certificate and a token."""
    folder = tmp_path_factory.mktemp("guarded")
    asks = "--client-ca", files.folder / "ca.pem", "--tokens", files.tokens
    keeps = "--save-dir", folder / "kept", "--allow-export"
    with running_cloud(folder, *files.server, *asks, *keeps) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def plain(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Asks for a token, without TLS, on loopback; its command line is its own."""
    place = tmp_path_factory.mktemp("plain")
    with running_cloud(place, "--tokens", files.tokens, own_line=True) as cloud:
        yield cloud


@contextmanager
def once(secret: str) -> Iterator[Path]:
    """Yield a pipe that holds a secret, as a shell's `<(...)` does: it can be read once."""
    reader, writer = os.pipe()
    os.write(writer, secret.encode())
    os.close(writer)
    try:
        yield Path(f"/dev/fd/{reader}")
    finally:
        os.close(reader)


@pytest.fixture
def edge(tiny_model: Path, tmp_path: Path) -> Edge:
    data = write_rows(tmp_path / "data", ROWS, ROWS)

    def train(cloud: Cloud, *options: object) -> str:
        done = edge_here(
            *("train", "--task", "sst2", "--model", tiny_model, "--data", data, "--rank", 4),
            *("--server", cloud.server, "--batch-size", 4, "--epochs", 1, "--quiet"),
            *("--runs-dir", tmp_path / "runs", "--name", "run", *options),
        )
        assert done.returncode == (1 if done.stderr else 0), done
        assert len(done.stderr.splitlines()) == done.returncode, done.stderr
        return done.stderr.strip()

    return train


def test_an_edge_trains_and_comes_back_over_tls(
    edge: Edge, tls: Cloud, files: Files, tmp_path: Path
) -> None:
    assert edge(tls, *files.trust) == ""
    line = ("--run", tmp_path / "runs" / "run")
    assert edge_here("predict", *line, *files.trust, "fine").returncode == 0
    assert (
        "(it speaks TLS); give --tls-ca FILE" in edge_here("predict", *line, *SOON, "fine").stderr
    )
    assert "listening on 127.0.0.1" in tls.log.read_text()
    assert "(TLS, no login)" in tls.log.read_text()


def test_an_edge_does_all_it_can_with_certificate_and_token(
    edge: Edge, guarded: Cloud, files: Files, tmp_path: Path
) -> None:
    shown = (*files.trust, *files.client, "--token-file", files.token)
    assert edge(guarded, *shown) == ""
    line = ("--run", tmp_path / "runs" / "run", *shown)
    for command in (
        ("predict", *line, "fine"),
        ("evaluate", *line),
        ("export", *line, "--to", tmp_path / "whole"),
    ):
        done = edge_here(*command)
        assert done.returncode == 0, done.stderr
    assert edge(guarded, *shown, "--edge", "frozen", "--name", "frozen", "--detach") == ""
    fetched = edge_here("fetch", "--run", tmp_path / "runs" / "frozen", *shown, "--quiet")
    assert fetched.returncode == 0, fetched.stderr
    with once(files.secret) as pipe:
        secured = (*files.trust, *files.client, "--token-file", pipe)
        assert edge(guarded, *secured, "--edge", "frozen", "--name", "stays") == ""
    assert "(TLS, client certificates, tokens)" in guarded.log.read_text()


def test_a_token_comes_from_the_environment_too(
    edge: Edge, plain: Cloud, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_TOKEN", files.secret)
    assert edge(plain) == ""
    assert "(this machine only, tokens)" in plain.log.read_text()


def test_what_is_missing_at_the_guarded_door_is_said(
    edge: Edge, guarded: Cloud, files: Files, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    made = run("sft-cloud", "certs", "--to", other, "--host", "a.b", "--client", "lab")
    assert made.returncode == 0
    wrong = tmp_path / "wrong"
    wrong.write_text("x" * 43)
    strange = "--tls-cert", other / "lab.pem", "--tls-key", other / "lab-key.pem"
    for options, message in (
        ((), "(it speaks TLS); give --tls-ca FILE with its authority, or --tls"),
        (files.trust, "(it asks for a certificate); give --tls-cert FILE and --tls-key FILE"),
        ((*files.trust, *strange), f"it does not take the certificate {other / 'lab.pem'}"),
        ((*files.trust, *files.client), REFUSAL),
        ((*files.trust, *files.client, "--token-file", wrong), REFUSAL),
    ):
        assert message in edge(guarded, *options, *SOON), options


def test_an_edge_says_why_it_does_not_trust_a_cloud(
    edge: Edge, tls: Cloud, files: Files, tmp_path: Path
) -> None:
    made = run("sft-cloud", "certs", "--to", tmp_path / "other", "--host", "a.b")
    assert made.returncode == 0
    for options, message in (
        (("--tls-ca", tmp_path / "other" / "ca.pem"), "its certificate is not to be trusted by"),
        (("--tls",), "its certificate is not to be trusted by the public authorities"),
        (
            (*files.trust, "--tls-name", "c.d"),
            "its certificate is not for c.d); use a name that it is for",
        ),
    ):
        assert message in edge(tls, *options, *SOON), options
    assert edge(tls, *files.trust, "--tls-name", "a.b") == ""


def test_a_cloud_without_tls_is_told_from_one_with_it(
    edge: Edge, plain: Cloud, files: Files
) -> None:
    message = edge(plain, *files.trust, *SOON)
    assert "(it does not speak TLS); start it with --tls-cert and --tls-key, or leave" in message


def test_the_health_command_over_tls(guarded: Cloud, files: Files) -> None:
    """It needs the certificate, as the connection does, but no token."""
    line = ("health", "--server", guarded.server)
    done = run("sft-cloud", *line, *files.trust, *files.client)
    assert (done.returncode, done.stdout) == (0, "SERVING\n")
    done = run("sft-cloud", *line, *files.trust)
    assert (done.returncode, done.stdout) == (1, "")
    (message,) = done.stderr.splitlines()
    assert "it asks for a certificate" in message


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer " + "x" * 43)],
        [("authorization", "Basic bGFiOg==")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
    ],
)
def test_without_a_token_nothing_can_be_called_but_health(
    plain: Cloud, metadata: list[tuple[str, str]]
) -> None:
    with grpc.insecure_channel(plain.server) as channel:
        stub: Any = pb_grpc.SplitTrainingServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        calls: list[Callable[[], object]] = [
            lambda: list(stub.Train(iter([pb.TrainRequest()]), metadata=metadata)),
            lambda: list(stub.Train(iter([]), metadata=metadata)),
            lambda: list(stub.Follow(pb.FollowRequest(), metadata=metadata)),
            lambda: list(stub.Export(pb.ExportRequest(), metadata=metadata)),
            lambda: channel.unary_unary(f"/{SERVICE}/NoSuch")(b"", metadata=metadata),
            lambda: channel.unary_unary("/grpc.health.v1.Health/List")(b"", metadata=metadata),
            lambda: list(ProtoReflectionDescriptorDatabase(channel).get_services()),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as raised:
                call()
            error = error_of(raised.value)
            assert (type(error), str(error)) == (AuthenticationError, REFUSAL)
        health.Check(health_pb2.HealthCheckRequest(service=SERVICE))


def test_tokens_come_and_go_without_a_restart(edge: Edge, files: Files, tmp_path: Path) -> None:
    tokens, token = tmp_path / "tokens", tmp_path / "token"
    shutil.copy(files.tokens, tokens)
    with running_cloud(tmp_path / "cloud", "--tokens", tokens) as cloud:
        token.write_text(new_token(tokens, "guest"))
        assert edge(cloud, "--token-file", token) == ""
        tokens.write_text("guest, who is no edge\n")
        assert edge(cloud, "--token-file", token, "--name", "still") == ""
        assert "line 1 is not NAME sha256:HEX" in cloud.log.read_text()
        assert "who is no edge" not in cloud.log.read_text()
        tokens.unlink()
        assert edge(cloud, "--token-file", token, "--name", "again") == ""
        shutil.copy(files.tokens, tokens)
        new_token(tokens, "guest")
        assert REFUSAL in edge(cloud, "--token-file", token, "--name", "no more")
        assert edge(cloud, "--token-file", files.token, "--name", "lab") == ""
        assert run("sft-cloud", "token", "lab", "--tokens", tokens, "--revoke").returncode == 0
        assert REFUSAL in edge(cloud, "--token-file", files.token, "--name", "late")


def test_certificates_change_without_a_restart(edge: Edge, files: Files, tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    shutil.copytree(files.folder, own)
    assert run("sft-cloud", "certs", "--to", other, "--host", "a.b").returncode == 0
    pair = "--tls-cert", own / "server.pem", "--tls-key", own / "server-key.pem"
    trusted = "--tls-ca", other / "ca.pem"
    with running_cloud(tmp_path / "cloud", *pair) as cloud:
        shutil.copy(other / "server.pem", own)
        assert edge(cloud, *files.trust) == ""
        assert "server-key.pem: is not the key of --tls-cert" in cloud.log.read_text()
        shutil.copy(other / "server-key.pem", own)
        assert edge(cloud, *trusted, "--name", "changed") == ""
        (own / "server.pem").unlink()
        assert edge(cloud, *trusted, "--name", "still") == ""


def test_a_cloud_does_not_open_to_others_in_the_clear() -> None:
    done = run("sft-cloud", "serve", "--cpu", "--host", "0.0.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    (message,) = done.stderr.splitlines()
    assert "lets other machines in, and data would travel in the clear" in message
    assert "--tls-cert" in message and "--insecure" in message


def test_the_token_is_in_no_log_no_error_and_no_command_line(
    tiny_model: Path, plain: Cloud, files: Files, tmp_path: Path
) -> None:
    """With as much of gRPC's own log as a person would ask for; failures included."""
    data = write_rows(tmp_path / "data", ROWS, ROWS)
    line = [
        *("train", "--task", "sst2", "--model", tiny_model, "--data", data, "--rank", 4),
        *("--server", plain.server, "--batch-size", 4, "--epochs", 1, "--name", "run"),
    ]
    wrong = files.secret[::-1]
    outputs = []
    for secret, code in ((files.secret, 0), (wrong, 1)):
        environment = {"SFT_TOKEN": secret, "GRPC_VERBOSITY": "INFO"}
        done = run("sft-edge", *line, cwd=tmp_path, environment=environment)
        assert done.returncode == code, done.stderr
        outputs += [done.stdout, done.stderr, " ".join(done.args)]
    outputs.append(plain.log.read_text())
    outputs.append(Path(f"/proc/{plain.process.pid}/cmdline").read_text())
    outputs.append(files.tokens.read_text())
    outputs += [path.read_text() for path in (tmp_path / "runs").rglob("*.json*")]
    for text in outputs:
        assert files.secret not in text and wrong not in text
