"""Federations behind TLS and tokens: who may join, and under whose name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.federated import join, metrics, write_clients, write_file
from tests.processes import Cloud, run, running_cloud
from tests.warm import Program

SIZES = {"a": 6, "b": 6}


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A cloud that speaks TLS and asks for tokens."""

    cloud: Cloud
    place: Path
    data: dict[str, Path]
    model: Path

    def login(self, edge: str) -> tuple[object, ...]:
        """Return what an edge shows and trusts."""
        return "--tls-ca", self.place / "pki" / "ca.pem", "--token-file", self.place / edge

    def join(self, place: str, client: str, *more: object, method: str = "sfprompt") -> Program:
        line = ("--model", self.model, *more)
        server, data = f"localhost:{self.cloud.port}", self.data[client]
        return join(self.place / place, server, method, client, data, *line)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Guarded]:
    place = tmp_path_factory.mktemp("guarded")
    done = run("sft-cloud", "certs", "--to", place / "pki", "--host", "localhost")
    assert done.returncode == 0, done.stderr
    for edge in ("clinic", "bank"):
        done = run("sft-cloud", "token", edge, "--tokens", place / "tokens")
        (place / edge).write_text(done.stdout)
    line: list[object] = ["--tls-cert", place / "pki" / "server.pem"]
    line += ["--tls-key", place / "pki" / "server-key.pem", "--tokens", place / "tokens"]
    for method in ("sfprompt", "splitfed"):
        two = {"per_round": 2}
        more = {"method": method, "rounds": 1, "clients": two}
        line += ["--federation", write_file(place / f"{method}.toml", tiny_model, **more)]
    data = write_clients(place / "data", SIZES)
    with running_cloud(place / "cloud", *line, "--save-dir", place / "sessions") as cloud:
        yield Guarded(cloud=cloud, place=place, data=data, model=tiny_model)


@pytest.mark.parametrize("method", ["sfprompt", "splitfed"])
def test_clients_log_in_for_all_that_they_ask(guarded: Guarded, method: str) -> None:
    owners = {"a": "clinic", "b": "bank"}
    programs = [
        guarded.join(method, client, *guarded.login(edge), method=method)
        for client, edge in owners.items()
    ]
    for program in programs:
        program.said()
    assert metrics(guarded.place / method, method, "a")["rounds"] == 1


def test_without_a_token_nobody_joins(guarded: Guarded) -> None:
    program = guarded.join("nobody", "a", "--tls-ca", guarded.place / "pki" / "ca.pem")
    assert program.wait() == 1
    assert "lets in who shows a token that it knows" in program.log.read_text()


def test_a_client_s_name_is_that_of_the_edge_who_took_it(guarded: Guarded) -> None:
    """The federation has ended, and tells its end to those who took part alone by that name."""
    guarded.join("again", "a", *guarded.login("clinic")).said()
    program = guarded.join("thief", "a", *guarded.login("bank"))
    assert program.wait() == 1
    assert "client a of this federation is another edge's" in program.log.read_text()
