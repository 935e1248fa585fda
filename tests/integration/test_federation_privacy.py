"""Updates that are clipped and noised by real clients, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sft_common.model.loading import Pretrained
from tests.federated import (
    all_said,
    average_file,
    history,
    join,
    joined,
    metrics,
    records,
    write_clients,
    write_file,
)
from tests.processes import Cloud, running_cloud

SIZES = {"a": 6, "b": 6, "c": 6}
NOISE = {"clip": 0.5, "noise": 2.0, "delta": 1e-4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clients(tmp_path_factory.mktemp("data"), SIZES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("privacy")


@pytest.fixture(scope="module")
def cloud(place: Path, tiny_model: Path) -> Iterator[Cloud]:
    line: list[object] = []
    for method in ("fedavg", "sfprompt"):
        file = place / f"{method}.toml"
        line += ["--federation", write_file(file, tiny_model, method=method, privacy=NOISE)]
    again = write_file(place / "again.toml", tiny_model, rounds=1, privacy=NOISE)
    line += ["--federation", again, "--save-dir", place / "sessions"]
    with running_cloud(place / "cloud", *line) as running:
        yield running


@pytest.mark.parametrize("method", ["fedavg", "sfprompt"])
def test_epsilon_is_counted_and_told_and_the_cloud_learns_no_metric(
    cloud: Cloud, place: Path, data: dict[str, Path], tiny_model: Path, method: str
) -> None:
    clients = joined(place / method, cloud.server, method, data, "--model", tiny_model)
    said = {name: program.said() for name, program in clients.items()}
    known = metrics(place / method, method, "a")["privacy"]
    assert known == {**NOISE, "releases": 3, "epsilon": pytest.approx(known["epsilon"])}
    epsilons = [line.get("epsilon") for line in history(place / method, method, "a")]
    assert epsilons[3] is None and epsilons[:3] == sorted(epsilons[:3])
    assert 0 < epsilons[0] < epsilons[2] == known["epsilon"]
    assert f"epsilon {known['epsilon']:.2f} at delta 0.0001" in said["a"]
    assert metrics(place / method, method, "a")["metric"]["name"] == "accuracy", "for the client"
    told = records(place / "sessions", method)
    assert [record["value"] for record in told] == [None] * 4


def test_noise_is_as_large_as_it_says(
    cloud: Cloud, place: Path, data: dict[str, Path], tiny_model: Path
) -> None:
    """One round, three clients of one weight: the mean of their noise, the clipped moves beside."""
    clients = joined(place / "again", cloud.server, "again", data, "--model", tiny_model)
    all_said(list(clients.values()))
    found = load_file(average_file(place / "again", "again", "a"))
    begun = dict(Pretrained(tiny_model, num_labels=2).whole(seed=0).named_parameters())
    moves = torch.cat([(found[name] - begun[name].detach()).flatten() for name in found])
    expected = NOISE["noise"] * NOISE["clip"] / 3**0.5
    assert float(moves.std()) == pytest.approx(expected, rel=0.05)
    assert abs(float(moves.mean())) < 0.05


def test_a_client_that_joins_again_goes_on_counting(
    cloud: Cloud, place: Path, data: dict[str, Path], tiny_model: Path
) -> None:
    file = place / "fedavg" / "runs" / "fedavg-a" / "privacy.json"
    known = json.loads(file.read_text())
    file.write_text("{")
    line = (place / "fedavg", cloud.server, "fedavg", "a", data["a"], "--model", tiny_model)
    refused = join(*line)
    assert refused.wait() == 1
    assert "what this client gave away is not known any more" in refused.log.read_text()
    file.write_text(json.dumps(known))
    join(*line).said()
    assert metrics(place / "fedavg", "fedavg", "a")["privacy"]["releases"] == 3
