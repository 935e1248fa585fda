"""Federations whose clients vanish, come late or send rubbish, and whose cloud is killed."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft_common.errors import ConfigError
from sft_common.federation.said import Ended, Over, Said, Waiting, Work
from sft_common.federation.tensors import shapes_of, tensors_from_bytes
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_common.rpc.federation import plan_digest
from sft_edge.federation.calls import Member, attend, describe, hand_in
from sft_edge.federation.done import Done
from sft_edge.traffic import Traffic
from tests.federated import (
    all_said,
    average_file,
    history,
    join,
    joined,
    metrics,
    newest,
    write_clients,
    write_file,
)
from tests.warm import Forge, RestartedCloud

SIZES = {"a": 12, "b": 7, "c": 20}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clients(tmp_path_factory.mktemp("data"), SIZES)


@pytest.fixture
def lead(programs: Forge, tmp_path: Path, tiny_model: Path) -> Iterator[Callable[..., Any]]:
    """Starts clouds that lead a federation `f`; kills them at the end."""
    clouds = []

    def start(place: str = "cloud", **changes: Any) -> RestartedCloud:
        file = write_file(tmp_path / "f.toml", tiny_model, **changes)
        cloud = RestartedCloud(programs, tmp_path / place, "--federation", file)
        clouds.append(cloud)
        return cloud

    yield start
    for cloud in clouds:
        cloud.program.kill()


class Hand:
    """A client by hand: it hears what the cloud says, and does what the test wants."""

    def __init__(self, server: str, client: str) -> None:
        self.access = Access(server=server)
        self.plan = describe(self.access, "f")
        self.member = Member("f", client, secrets.randbits(60), plan_digest(self.plan))
        self.said: list[Said] = []
        self._heard = threading.Condition()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        call = attend(self.access, self.member, self.plan.model, None, Traffic(), lambda call: None)
        try:
            for said in call:
                with self._heard:
                    self.said.append(said)
                    self._heard.notify()
        except Exception:
            return  # the cloud is killed at the end

    def wait_for(self, kind: type[Said], count: int = 1) -> Any:
        """Return what came, the `count`-th time."""

        def found() -> list[Said]:
            return [said for said in self.said if isinstance(said, kind)]

        with self._heard:
            assert self._heard.wait_for(lambda: len(found()) >= count, timeout=60)
        return found()[count - 1]

    def hand_in(self, work: Work, done: Done | str) -> str:
        return hand_in(self.access, self.member, work.attempt, done, Traffic())


def average_of(model: Path, work: Work) -> dict[str, torch.Tensor]:
    whole = Pretrained(model, num_labels=2).whole(seed=0)
    return tensors_from_bytes(work.data, shapes_of(dict(whole.named_parameters())), "average")


@pytest.mark.parametrize("method", ["fedavg", "splitfed"])
def test_a_killed_cloud_costs_nothing_but_time(
    lead: Callable[..., RestartedCloud],
    data: dict[str, Path],
    tiny_model: Path,
    tmp_path: Path,
    method: str,
) -> None:
    """Killed with -9 in the midst of round 2, it ends with the bits of one that was not."""
    more = {"method": method} | ({"cut": {"cut": "sft", "rank": 4}} if method != "fedavg" else {})
    found = {}
    for place in ("undisturbed", "killed"):
        cloud = lead(place, rounds=3, training={"epochs": 3}, **more)
        clients = joined(
            tmp_path / f"{place}-edges", cloud.server, "f", data, "--model", tiny_model,
            *("--retry-pause", 0.5),
        )  # fmt: skip
        if place == "killed":
            cloud.program.wait_for("round 1 of 3")
            cloud.program.kill()
            cloud.start()
            cloud.program.wait_for("goes on behind round 1")
        all_said(list(clients.values()))
        saved = newest(cloud.sessions, "f")
        found[place] = {
            **load_file(saved / "clients.safetensors"),
            **(load_file(saved / "cloud.safetensors") if method != "fedavg" else {}),
        }
    assert found["killed"].keys() == found["undisturbed"].keys()
    for name, tensor in found["undisturbed"].items():
        assert torch.equal(found["killed"][name], tensor), name


def test_a_killed_client_is_done_without_and_comes_back(
    lead: Callable[..., RestartedCloud], data: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    waits = {"quorum": 2, "patience_seconds": 0.5}
    cloud = lead(rounds=4, clients=waits, training={"epochs": 15})
    clients = joined(tmp_path, cloud.server, "f", data, "--model", tiny_model)
    clients["c"].wait_for("has 20 examples")
    cloud.program.wait_for("round 1 of 4")
    clients["c"].kill()
    cloud.program.wait_for("round 2 of 4, 2 of 3 clients")
    again = join(tmp_path, cloud.server, "f", "c", data["c"], "--model", tiny_model)
    all_said([clients["a"], clients["b"], again])
    assert metrics(tmp_path, "f", "a")["rounds"] == 4
    averages = [load_file(average_file(tmp_path, "f", client)) for client in "abc"]
    assert all(torch.equal(averages[0][n], averages[2][n]) for n in averages[0])


def test_rubbish_and_late_updates_are_refused_and_never_mixed_in(
    lead: Callable[..., RestartedCloud], data: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    waits = {"per_round": 4, "minimum": 4, "quorum": 2, "round_seconds": 6.0}
    cloud = lead(rounds=1, clients=waits)
    nan, late = Hand(cloud.server, "nan"), Hand(cloud.server, "late")
    good = {name: data[name] for name in "ab"}
    clients = joined(tmp_path, cloud.server, "f", good, "--model", tiny_model)
    work = nan.wait_for(Work)
    bad = average_of(tiny_model, work)
    next(iter(bad.values())).view(-1)[3] = float("nan")
    assert "not finite" in nan.hand_in(work, Done(tensors=bad, weight=10**6))
    assert "goes on without this client" in nan.hand_in(work, Done(tensors=bad, weight=1))
    over = late.wait_for(Over)
    assert over.reason == "nothing came in time"
    ruin = {name: tensor * 0 + 1e9 for name, tensor in bad.items()}
    assert "is over" in late.hand_in(late.wait_for(Work), Done(tensors=ruin, weight=10**6))
    for hand in (nan, late):
        last = hand.wait_for(Work, 2)
        assert last.duty == "evaluate" and hand.hand_in(last, Done(weight=1)) == ""
    assert [hand.wait_for(Ended).data for hand in (nan, late)] == [b"", b""]
    all_said(list(clients.values()))
    found = load_file(average_file(tmp_path, "f", "a"))
    assert max(tensor.abs().max().item() for tensor in found.values()) < 100
    assert [line["taken"] for line in history(tmp_path, "f", "b")] == [True, True]


def test_a_client_that_cannot_train_says_so_and_stays(
    lead: Callable[..., RestartedCloud], data: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """With such a rate every loss is soon no number; the cloud gives up after so many tries."""
    cloud = lead(rounds=1, training={"learning_rate": 1e6, "epochs": 8})
    clients = joined(tmp_path, cloud.server, "f", data, "--model", tiny_model)
    for program in clients.values():
        assert program.wait() == 1
        assert "sft-edge: round 1 came to nothing 20 times; last: " in program.log.read_text()
    lines = history(tmp_path, "f", "a")
    assert not any(line["taken"] for line in lines) and "the loss is" in lines[0]["reason"]


def test_two_programs_cannot_be_the_same_client(
    lead: Callable[..., RestartedCloud], data: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    cloud = lead()
    first = join(tmp_path, cloud.server, "f", "a", data["a"], "--model", tiny_model)
    first.wait_for("waiting for round 1: 1 of at least 3")
    second = join(tmp_path, cloud.server, "f", "a", data["a"], "--model", tiny_model)
    assert second.wait() == 1
    assert "another program is the client of" in second.log.read_text()
    elsewhere = Hand(cloud.server, "a")
    assert first.wait() == 1
    assert "another program takes part as this client" in first.log.read_text()
    assert elsewhere.wait_for(Waiting).present == 1


def test_ctrl_c_ends_a_client_in_good_order(
    lead: Callable[..., RestartedCloud], data: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    cloud = lead()
    client = join(tmp_path, cloud.server, "f", "a", data["a"], "--model", tiny_model)
    client.wait_for("waiting for round 1")
    client.send(signal.SIGINT)
    assert client.wait() == 130
    assert "stopped; join again as --client a to go on" in client.log.read_text()


def test_what_does_not_fit_a_federation_is_said_in_a_line(
    lead: Callable[..., RestartedCloud],
    programs: Forge,
    data: dict[str, Path],
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    cloud = lead(labels=["bad", "good", "so-so"])
    with pytest.raises(ConfigError, match="leads no federation 'g'; it leads: f"):
        describe(Access(server=cloud.server), "g")
    for task, said in (
        ("sst2", "task sst2 has the labels negative, positive, federation f bad, good, so-so"),
        ("stsb", "federation f is about text tasks, task stsb is of kind similarity"),
    ):
        line: list[object] = ["join", "--federation", "f", "--server", cloud.server]
        line += ["--task", task]
        line += ["--data", data["a"], "--model", tiny_model]
        done = programs.start("sft-edge", line, tmp_path / f"{task}.log")
        assert done.wait() == 1 and said in done.log.read_text()
