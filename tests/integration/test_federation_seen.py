"""A federation of two rounds with a real cloud and real clients, as its owner sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.federated import all_said, joined, records, write_clients, write_file
from tests.pages import pictures, read
from tests.warm import Forge, RestartedCloud

SIZES = {"anna": 12, "berta": 7, "clara": 20}


@dataclass
class Scene:
    """A cloud that leads two federations: one that has come to its end, one that nobody joins."""

    programs: Forge
    cloud: RestartedCloud
    place: Path
    while_training: dict[str, Any]
    """Of `sft-cloud status --json`, when the first had ended its first round."""

    def status(self, *arguments: object) -> str:
        return status(self.programs, self.cloud, self.place, *arguments)

    def told(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self.status("--json"))["federations"]
        return {federation["name"]: federation for federation in found}


def status(programs: Forge, cloud: RestartedCloud, place: Path, *arguments: object) -> str:
    said = place / "said"
    said.write_text("")
    line = ["status", "--save-dir", cloud.sessions, *arguments]
    assert programs.start("sft-cloud", line, said).wait() == 0
    return said.read_text()


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("seen")
    files = [
        write_file(place / "hospitals.toml", tiny_model, method="splitfed", rounds=2,
                   training={"epochs": 6}, cut={"cut": "sft", "rank": 4}),
        write_file(place / "lonely.toml", tiny_model),
    ]  # fmt: skip
    line = [argument for file in files for argument in ("--federation", file)]
    line += ["--metrics-port", 0, "--metrics-port-file", place / "port", "--log-format", "json"]
    cloud = RestartedCloud(programs, place / "cloud", *line)
    data = write_clients(place / "data", SIZES)
    clients = joined(place, cloud.server, "hospitals", data, "--model", tiny_model)
    cloud.program.wait_for("round 1 of 2")
    now = json.loads(status(programs, cloud, place, "--json"))
    all_said(list(clients.values()))
    yield Scene(programs, cloud, place, now)
    cloud.program.kill()


def test_status_shows_federations_while_they_go_on(scene: Scene) -> None:
    [training, waiting] = scene.while_training["federations"]
    assert (training["name"], training["method"]) == ("hospitals", "splitfed")
    assert training["state"] in ("training", "evaluating", "ended")
    assert training["rounds_done"] in (1, 2) and training["rounds_planned"] == 2
    if training["state"] == "training" and training["under_way"]:
        assert (training["under_way"]["round"], training["under_way"]["drawn"]) == (2, 3)
    assert (waiting["name"], waiting["state"], waiting["under_way"]) == ("lonely", "waiting", None)


def test_status_at_the_end(scene: Scene) -> None:
    ended = scene.told()["hospitals"]
    assert (ended["state"], ended["rounds_done"], ended["clients_known"]) == ("ended", 2, 3)
    assert ended["cuts"].startswith("cut: ") and "rank 4" in ended["cuts"]
    assert ended["measured"]["round"] == 2, "the last evaluation is of the last average"
    assert ended["measured"]["metric"] == "accuracy" and 0 <= ended["measured"]["value"] <= 1
    assert ended["received_bytes"] > 0 and ended["sent_bytes"] > 0
    shown = scene.status("--once").splitlines()
    [row] = [line for line in shown if line.startswith("hospitals")]
    assert "ended" in row and "2 of 2" in row and "accuracy" in row
    assert any(line.startswith("session") for line in shown), "sessions have a table of their own"


def test_metrics_name_federations_and_never_clients(scene: Scene) -> None:
    port = (scene.place / "port").read_text().strip()
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text = str(answer.read(), "utf-8")
    assert not any(client in text for client in SIZES)
    found = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["sft_federation_round", "hospitals"] == 2
    assert found["sft_federation_rounds_total", "hospitals", "counted"] == 2
    assert found["sft_federation_updates_total", "hospitals", "taken"] == 6
    assert (
        found["sft_federation_metric", "hospitals"]
        == scene.told()["hospitals"]["measured"]["value"]
    )
    assert found["sft_federations", "ended"] == found["sft_federations", "waiting"] == 1
    assert found["sft_federation_received_bytes_total", "hospitals"] > 1000
    assert ("sft_federation_metric", "lonely") not in found


def test_the_report_shows_each_value_at_the_round_whose_average_it_is_of(scene: Scene) -> None:
    page = scene.cloud.sessions / "federations" / "hospitals" / "report.html"
    text = page.read_text("utf-8")
    found = read(text)
    assert pictures(found) == 5 and "2rounds of 2" in found.text
    tried = records(scene.cloud.sessions, "hospitals")
    assert [(record["round"], record["duty"]) for record in tried] == [
        (1, "train"),
        (2, "train"),
        (3, "evaluate"),
    ]
    for record in tried[1:]:
        assert f"average: {100 * record['value']:.5g} at {record['round'] - 1}" in found.text
    assert "last evaluation" in found.text and "https://" not in text
    lonely = scene.cloud.sessions / "federations" / "lonely"
    assert not (lonely / "report.html").exists(), "no round of it has ended"


def test_log_lines_carry_the_federations_name(scene: Scene) -> None:
    def lines() -> list[dict[str, Any]]:
        text = scene.cloud.log.read_text().splitlines()
        return [json.loads(line) for line in text if line.startswith("{")]

    until(lambda: any("hospitals has ended" in line["message"] for line in lines()))
    about = [line for line in lines() if line.get("federation") == "hospitals"]
    said = [line["message"] for line in about]
    rounds = [line for line in said if line.startswith("federation hospitals: round ")]
    assert len(rounds) == 2 and "of round 1's average" in rounds[1]
    [end] = [line for line in said if "has ended" in line]
    assert end.endswith("federations/hospitals/report.html")
    waits = [line for line in said if "waits for clients" in line]
    assert waits and len(waits) == len(set(waits)), "once for each number of clients"
    assert any(line.get("federation") == "lonely" for line in lines())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
