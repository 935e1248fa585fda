"""Build both images and run the demo over the compose network, as a person would.

Needs a Docker engine; skipped where none answers. SFT_COMPOSE_FILES may name further compose files,
separated like the entries of PATH, for instance one whose build arguments choose a package index.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
USER = 10001
BUILD_SECONDS = 3000
DEMO_SECONDS = 1500

# Modules that only the other side asks for. rich is not among them: transformers brings it along.
FOREIGN = {
    "cloud": ("datasets", "pyarrow", "sklearn", "pandas", "sentence_transformers"),
    "edge": ("cryptography", "grpc_health", "grpc_reflection", "sentence_transformers"),
}

pytestmark = [pytest.mark.docker, pytest.mark.timeout(BUILD_SECONDS + DEMO_SECONDS + 300)]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The two containers after the edge has ended; the cloud still runs."""

    containers: dict[str, str]
    """Service -> container id."""

    health: dict[str, Any]
    """The cloud's health just after the edge had been started."""

    exit_code: int
    """What the edge ended with."""

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a container."""
        return _inspect(self.containers[service])

    def logs(self, service: str) -> str:
        """Return what a container wrote to both of its outputs."""
        done = _run("docker", "logs", self.containers[service])
        return done.stdout + done.stderr

    def python(self, service: str, code: str) -> str:
        """Run Python in a fresh container of a service's image and return what it prints."""
        image = self.inspect(service)["Image"]
        line = ["docker", "run", "--rm", "--network=none", "--entrypoint=python", image, "-c", code]
        return _output(*line).strip()


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """The command line of compose, up to its files."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command on this machine")
    if _run("docker", "info").returncode != 0:
        pytest.skip("no Docker engine answers on this machine (docker info fails)")
    if _run("docker", "compose", "version").returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.skip("there is neither docker compose nor docker-compose on this machine")


@pytest.fixture(scope="module")
def demo(compose: list[str]) -> Iterator[Demo]:
    """Build, start the cloud and then the edge, wait for the edge; leave nothing behind."""
    more = [path for path in os.environ.get("SFT_COMPOSE_FILES", "").split(os.pathsep) if path]
    files = [part for path in ("docker-compose.yml", *more) for part in ("--file", path)]
    project = [*compose, *files, "--project-name", f"sft-test-{uuid.uuid4().hex[:8]}"]
    try:
        _output(*project, "build", seconds=BUILD_SECONDS)
        _output(*project, "up", "--detach", seconds=300)
        containers = {
            service: _output(*project, "ps", "--all", "--quiet", service).strip()
            for service in ("cloud", "edge")
        }
        health = _inspect(containers["cloud"])["State"]["Health"]
        exit_code = int(_output("docker", "wait", containers["edge"], seconds=DEMO_SECONDS))
        yield Demo(containers=containers, health=health, exit_code=exit_code)
    finally:
        _output(*project, "down", "--volumes", "--rmi", "local")


def test_the_edge_trains_to_the_end_and_prints_the_table(demo: Demo) -> None:
    log = demo.logs("edge")
    print(log)  # what a person sees; pytest -s shows it
    assert demo.exit_code == 0, log + demo.logs("cloud")
    assert "accuracy, split" in log
    assert "bytes sent edge to cloud" in log
    assert "everything is in /runs/" in log


def test_the_run_lies_in_the_volume_and_belongs_to_the_edges_user(demo: Demo) -> None:
    with _folder(demo.containers["edge"], "/runs") as archive:
        members = {Path(member.name).name: member for member in archive if member.isfile()}
        assert set(members) == {"edge.safetensors", "history.jsonl", "job.json", "metrics.json"}
        assert {member.uid for member in members.values()} == {USER}
        file = archive.extractfile(members["metrics.json"])
        assert file is not None
        metrics = json.load(file)
    assert metrics["task"] == "demo"
    assert metrics["bytes"]["up"] > 0
    assert metrics["bytes"]["down"] > 0


def test_the_edge_waited_until_the_cloud_was_healthy(demo: Demo) -> None:
    edge_start = datetime.fromisoformat(demo.inspect("edge")["State"]["StartedAt"])
    first_good = next(check for check in demo.health["Log"] if check["ExitCode"] == 0)
    assert first_good["Output"].strip() == "SERVING"
    assert datetime.fromisoformat(first_good["End"]) < edge_start


def test_the_cloud_is_healthy_after_the_edge_has_ended(demo: Demo) -> None:
    state = demo.inspect("cloud")["State"]
    assert state["Running"]
    assert state["Health"]["Status"] == "healthy"


@pytest.mark.parametrize("service", ["cloud", "edge"])
def test_no_container_is_root_or_can_become_it(demo: Demo, service: str) -> None:
    facts = demo.inspect(service)
    assert facts["Config"]["User"] == f"{USER}:{USER}"
    assert demo.python(service, "import os; print(os.getuid(), os.getgid())") == f"{USER} {USER}"
    assert facts["HostConfig"]["ReadonlyRootfs"]
    assert facts["HostConfig"]["CapDrop"] == ["ALL"]
    assert facts["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
    assert not facts["HostConfig"]["PortBindings"]


def test_the_serving_process_itself_is_not_root(demo: Demo) -> None:
    line = ("docker", "exec", demo.containers["cloud"], "stat", "--format=%u", "/proc/1")
    assert _output(*line).strip() == str(USER)


@pytest.mark.parametrize("service", ["cloud", "edge"])
def test_no_image_carries_what_only_the_other_side_needs(demo: Demo, service: str) -> None:
    found = demo.python(
        service,
        "from importlib.util import find_spec; "
        f"print(*(name for name in {FOREIGN[service]} if find_spec(name)))",
    )
    assert found == ""


@pytest.mark.parametrize("service", ["cloud", "edge"])
def test_the_demos_weights_are_the_extras_version(demo: Demo, service: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (wanted,) = project["optional-dependencies"]["demo"]
    name, _, version = wanted.partition("==")
    code = f"from importlib.metadata import version; print(version({name!r}))"
    assert demo.python(service, code) == version


def test_the_override_gives_the_cloud_a_gpu(compose: list[str]) -> None:
    files = ("--file", "docker-compose.yml", "--file", "docker-compose.gpu.yml")
    merged = _output(*compose, *files, "config")
    assert "--gpu" in merged
    assert "--cpu" not in merged
    assert "driver: nvidia" in merged


def _inspect(container: str) -> dict[str, Any]:
    facts: list[dict[str, Any]] = json.loads(_output("docker", "inspect", container))
    return facts[0]


def _folder(container: str, path: str) -> tarfile.TarFile:
    line = ["docker", "cp", f"{container}:{path}", "-"]
    done = subprocess.run(line, capture_output=True, check=True, timeout=120)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def _run(*line: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=seconds)


def _output(*line: str, seconds: float = 120) -> str:
    done = _run(*line, seconds=seconds)
    assert done.returncode == 0, f"{' '.join(line)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout
