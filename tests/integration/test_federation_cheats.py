"""Clients that hand in what is not theirs, a plan that changes, a stop while the cloud is gone."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_common.errors import ForbiddenError, ProtocolError, SessionLostError
from sft_common.federation.said import Finding, Work
from sft_common.federation.tensors import tensors_from_bytes
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.federation import attempt_to_proto
from sft_edge.client import GrpcSession
from sft_edge.federation.done import Done
from tests.federated import TEXTS, all_said, history, join, joined, write_clients, write_file
from tests.integration.test_federation_crashes import Hand
from tests.processes import write_rows
from tests.warm import Forge, RestartedCloud

SPLITFED: dict[str, Any] = {
    "method": "splitfed",
    "cut": {"cut": "sft", "rank": 4},
    "clients": {"per_round": 2, "quorum": 1, "round_seconds": 60.0},
    "rounds": 1,
}


@pytest.fixture
def lead(programs: Forge, tmp_path: Path, tiny_model: Path) -> Iterator[Callable[..., Any]]:
    """Starts clouds that lead a federation `f`; kills them at the end."""
    clouds = []

    def start(*options: object, **changes: Any) -> RestartedCloud:
        file = write_file(tmp_path / "f.toml", tiny_model, **changes)
        clouds.append(RestartedCloud(programs, tmp_path / "cloud", "--federation", file, *options))
        return clouds[-1]

    yield start
    for cloud in clouds:
        cloud.program.kill()


def opened(hand: Hand, model: Path, work: Work, **changes: Any) -> GrpcSession:
    """Open the session of a client's turn."""
    at = work.attempt
    spec = hand.plan.session(
        hand.plan.seed_of(at.round, at.number, hand.member.client), max_examples=4, max_tokens=16
    )
    part = pb.FederationPart(
        name="f",
        client=hand.member.client,
        incarnation=hand.member.incarnation,
        attempt=attempt_to_proto(at),
    )
    shape = shape_of(Pretrained(model, num_labels=2).config)
    return GrpcSession(hand.access, spec, shape, part=part, **changes)


def net1_of(model: Path, hand: Hand, work: Work) -> dict[str, Any]:
    assert hand.plan.cut is not None
    pretrained = Pretrained(model, num_labels=2)
    net1 = pretrained.net1(hand.plan.cut.split)
    pretrained.fill_net1(net1)
    shapes = {n: p.shape for n, p in net1.skeleton.named_parameters() if p.requires_grad}
    return tensors_from_bytes(work.data, shapes, "net1")


def test_only_the_net2_that_a_client_trained_in_this_try_counts(
    lead: Callable[..., RestartedCloud], tiny_model: Path
) -> None:
    cloud = lead(**SPLITFED)
    a, b = Hand(cloud.server, "a"), Hand(cloud.server, "b")
    works = {hand: hand.wait_for(Work) for hand in (a, b)}
    sessions = {hand: opened(hand, tiny_model, work) for hand, work in works.items()}
    done = Done(tensors=net1_of(tiny_model, a, works[a]), weight=3)
    broken = Finding(examples=1, metric="accuracy", value=0.5, loss=float("nan"))
    mine = {"tensors": done.tensors, "weight": 3, "session_id": sessions[a].session_id}
    with pytest.raises(ProtocolError, match="finding with value 0.5 and loss nan"):
        a.hand_in(works[a], Done(**mine, finding=broken))
    with pytest.raises(SessionLostError, match="not what this client trained in this try"):
        b.hand_in(works[b], Done(**mine))
    assert "goes on without this client" in b.hand_in(works[b], Done(**mine))
    assert a.hand_in(works[a], Done(**mine)) == ""
    for session in sessions.values():
        session.abandon()


def test_a_session_of_a_federation_brings_no_numbers_of_its_own(
    lead: Callable[..., RestartedCloud], tiny_model: Path
) -> None:
    cloud = lead(**SPLITFED)
    a, _b = Hand(cloud.server, "a"), Hand(cloud.server, "b")
    work = a.wait_for(Work)
    with pytest.raises(ForbiddenError, match="starts from its numbers alone"):
        opened(a, tiny_model, work, trained_session="0123456789abcdef")


def test_a_client_that_was_told_another_plan_is_sent_away(
    lead: Callable[..., RestartedCloud], tmp_path: Path, tiny_model: Path
) -> None:
    """It would go on with the old learning rate, and be averaged with others."""
    data = write_clients(tmp_path / "data", {"a": 6})
    cloud = lead()
    client = join(
        tmp_path, cloud.server, "f", "a", data["a"], "--model", tiny_model, "--retry-pause", 0.5
    )
    client.wait_for("waiting for round 1: 1 of at least 3")
    cloud.program.kill()
    shutil.rmtree(cloud.sessions / "federations", ignore_errors=True)
    write_file(tmp_path / "f.toml", tiny_model, training={"learning_rate": 0.5})
    cloud.start()
    assert client.wait() == 1
    assert "was told another plan of federation f" in client.log.read_text()


@pytest.mark.parametrize("method", ["splitfed", "sfprompt"])
def test_ctrl_c_ends_a_client_whose_cloud_is_gone(
    lead: Callable[..., RestartedCloud], tmp_path: Path, tiny_model: Path, method: str
) -> None:
    """Not after --retry-for, an hour."""
    data = write_clients(tmp_path / "data", {"a": 20})
    known = {**SPLITFED, "method": method, "training": {"epochs": 5000}}
    if method == "sfprompt":
        known["cut"] = {"cut": "none", "split_layer": 1}
    cloud = lead(**{**known, "clients": {"per_round": 1, "quorum": 1}})
    client = join(tmp_path, cloud.server, "f", "a", data["a"], "--model", tiny_model)
    cloud.program.wait_for("opened")
    cloud.program.kill()
    if method == "splitfed":
        client.wait_for("connection to the cloud")
    client.send(signal.SIGINT)
    assert client.wait() == 130
    assert "join again as --client a to go on" in client.log.read_text()


@pytest.mark.parametrize("method", ["fedavg", "splitfed", "sfprompt"])
def test_ctrl_c_is_heeded_in_an_evaluation_and_the_client_may_come_back(
    lead: Callable[..., RestartedCloud], tmp_path: Path, tiny_model: Path, method: str
) -> None:
    rows = [{"text": text, "label": ("bad", "good")[label]} for text, label in TEXTS]
    data = write_rows(tmp_path / "data", rows, 2000 * rows)
    known: dict[str, Any] = {"method": method, "rounds": 1}
    if method != "fedavg":
        known["cut"] = {"cut": "none", "split_layer": 1}
    cloud = lead(**known, clients={"per_round": 1, "quorum": 1}, training={"epochs": 1})
    words = tmp_path, cloud.server, "f", "a", data, "--model", tiny_model, "--eval-examples"
    client = join(*words, 2000 * len(rows))
    client.wait_for("handed in")
    time.sleep(0.5)
    client.send(signal.SIGINT)
    assert client.wait() == 130
    assert "does not count: it was stopped" in client.log.read_text()
    join(*words, len(rows)).said()
    assert history(tmp_path, "f", "a")[-1]["average"] is not None


def test_more_clients_than_sessions_share_a_frozen_body(
    lead: Callable[..., RestartedCloud], tmp_path: Path, tiny_model: Path
) -> None:
    data = write_clients(tmp_path / "data", {"a": 6, "b": 6, "c": 6})
    known = {"method": "sfprompt", "cut": {"cut": "none", "split_layer": 1}, "rounds": 1}
    cloud = lead("--max-sessions", 1, **known, training={"epochs": 1})
    clients = joined(tmp_path, cloud.server, "f", data, "--model", tiny_model, "--wait", 0)
    all_said(list(clients.values()))
    for name, client in clients.items():
        assert [line["duty"] for line in history(tmp_path, "f", name)] == ["train", "evaluate"]
        assert "lost" not in client.log.read_text()
