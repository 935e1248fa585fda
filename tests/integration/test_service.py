"""`sft-cloud serve`: many sessions, and errors that end a session but never the server."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from torch import Tensor

from benchmarks.processes import resident_bytes
from sft_common import PROTOCOL_VERSION
from sft_common.config import ModelShape, SessionSpec, SplitSpec
from sft_common.errors import (
    CapacityError,
    ConfigError,
    LimitError,
    MismatchError,
    ModelError,
    ProtocolError,
    RetryLaterError,
    SftError,
    UnreachableError,
)
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_common.rpc.access import Access
from sft_common.rpc.options import FEDERATION_SERVICE, SERVICE
from sft_common.rpc.spec import spec_to_proto
from sft_common.rpc.status import error_of
from sft_common.wire.codec import tensor_to_proto
from sft_edge.client import GrpcSession
from tests.models import save_tiny_model
from tests.processes import Cloud, history, run, running_cloud, train, write_rows

ROWS = [{"sentence": "a lovely room" if n % 2 else "awful tea", "label": n % 2} for n in range(32)]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), "--max-sessions", 3) as running:
        yield running


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> SessionSpec:
    identity = Pretrained(tiny_model, num_labels=2).identity(str(tiny_model))
    return SessionSpec(model=identity, split=SplitSpec(split_layer=2, rank=4), num_labels=2)


@pytest.fixture(scope="module")
def shape(tiny_model: Path) -> ModelShape:
    return shape_of(Pretrained(tiny_model, num_labels=2).config)


def access(cloud: Cloud) -> Access:
    return Access(server=cloud.server, connect_seconds=20)


def opened(cloud: Cloud, spec: SessionSpec, shape: ModelShape) -> GrpcSession:
    return GrpcSession(access(cloud), spec, shape)


def exchange(
    session: GrpcSession, number: int, activation: Tensor, lengths: list[int], labels: list[int]
) -> tuple[float, Tensor]:
    session.begin_step(number, activation, lengths, labels)
    return session.end_step()


def opening(spec: SessionSpec, **changes: Any) -> pb.TrainRequest:
    message = spec_to_proto(spec)
    for path, value in changes.items():
        *parents, name = path.split("__")
        target: Any = message
        for parent in parents:
            target = getattr(target, parent)
        setattr(target, name, value)
    return pb.TrainRequest(open=message)


def step(number: int = 1, **changes: Any) -> pb.TrainRequest:
    fields: dict[str, Any] = {
        "step": number,
        "activation": tensor_to_proto(torch.zeros(3, 4)),
        "lengths": [2, 1],
        "labels": [0, 1],
        "share": 1.0,
    }
    return pb.TrainRequest(step=pb.Step(**{**fields, **changes}))


def answer(cloud: Cloud, *requests: pb.TrainRequest) -> SftError | list[pb.TrainResponse]:
    """Send requests raw; returns the replies, or the error that ended the stream."""
    with grpc.insecure_channel(cloud.server) as channel:
        try:
            return list(pb_grpc.SplitTrainingServiceStub(channel).Train(iter(requests)))
        except grpc.RpcError as error:
            return error_of(error)


def serves(cloud: Cloud) -> bool:
    with grpc.insecure_channel(cloud.server) as channel:
        asked = [health_pb2.HealthCheckRequest(service=s) for s in (SERVICE, FEDERATION_SERVICE)]
        health = health_pb2_grpc.HealthStub(channel)
        found = {health.Check(request, timeout=10).status for request in asked}
        return found == {health_pb2.HealthCheckResponse.SERVING}


BAD_OPENINGS = [
    ({"protocol_version": PROTOCOL_VERSION + 1}, MismatchError, "edge speaks protocol version"),
    ({"encoding": 6}, ConfigError, "unknown encoding 6; choose one of: float32, float16"),
    ({"gradient_encoding": 0}, ConfigError, "unknown encoding 0; choose one of: float32"),
    ({"split__split_layer": 0}, ConfigError, r"split layer 0 is outside 1\.\.4"),
    ({"split__split_layer": 5}, ConfigError, r"split layer 5 is outside 1\.\.4"),
    ({"split__rank": 0}, ConfigError, r"rank 0 is outside 1\.\.32"),
    ({"split__rank": 33}, ConfigError, r"rank 33 is outside 1\.\.32"),
    ({"split__cut": "identity"}, ConfigError, "unknown cut 'identity'"),
    ({"num_labels": 0}, ConfigError, "0 labels"),
    ({"model__config_digest": "00"}, MismatchError, "different configuration"),
    ({"model__weights_digest": "00"}, MismatchError, "different weights"),
    ({"model__name": "/no/such/place"}, ModelError, "no model folder named 'place'"),
    ({"model__name": "../../etc"}, ModelError, "no model folder named 'etc'"),
    ({"model__name": "no-such-org/no-such-model"}, ModelError, "neither a folder nor to be had"),
    ({"model__name": "x" * 5_000}, ConfigError, "has 5000 characters, at most 1024 fit"),
    ({"split__cut": "x" * 100_000}, ConfigError, "unknown cut"),
    (
        {"model__name": "bert-base-uncased", "model__revision": "main"},
        ModelError,
        "revision 'main' of model 'bert-base-uncased' is not a commit",
    ),
    ({"model__name": ""}, ModelError, "no model folder named ''"),
    ({"model__name": "tests"}, ModelError, "no model folder named 'tests'"),
    ({"model__name": "."}, ModelError, "no model folder named"),
]


@pytest.mark.parametrize(("changes", "cls", "message"), BAD_OPENINGS)
def test_a_bad_opening_is_refused_and_the_server_lives(
    cloud: Cloud, spec: SessionSpec, changes: dict[str, Any], cls: type[SftError], message: str
) -> None:
    error = answer(cloud, opening(spec, **changes))
    assert type(error) is cls, error
    assert re.search(message, str(error)), error
    assert serves(cloud)


BAD_STEPS = [
    (step(2), "step 2 came, step 1 was expected"),
    (step(0), "step 0 came, step 1 was expected"),
    (step(lengths=[2, 2]), r"activation has shape \(3, 4\), expected \(4, 4\)"),
    (step(lengths=[]), "no examples"),
    (step(lengths=[3, 0]), r"0\.\.3"),
    (step(lengths=[2**32 - 1, 1]), "the model takes"),
    (step(labels=[0]), "has 1 labels; the head sequence-classification takes 2"),
    (step(labels=[0, 2]), r"label 2 is outside 0\.\.1"),
    (step(labels=[0, -1]), r"label -1 is outside 0\.\.1"),
    (step(activation=pb.Tensor()), "element type 0"),
    (pb.TrainRequest(apply=pb.Apply(step=1)), "apply names step 1, but no step waits"),
    (pb.TrainRequest(evaluate=pb.Evaluate()), "no examples"),
    (pb.TrainRequest(), "request None is not expected"),
]


@pytest.mark.parametrize(("request_", "message"), BAD_STEPS)
def test_a_bad_request_ends_its_session_only(
    cloud: Cloud, spec: SessionSpec, request_: pb.TrainRequest, message: str
) -> None:
    error = answer(cloud, opening(spec), request_)
    assert type(error) is ProtocolError, error
    assert re.search(message, str(error)), error
    assert serves(cloud)


def test_the_first_request_must_be_open(cloud: Cloud, spec: SessionSpec) -> None:
    for requests in ([step()], [pb.TrainRequest()], []):
        error = answer(cloud, *requests)
        assert type(error) is ProtocolError
        assert "the first request of a stream must be open" in str(error)
    error = answer(cloud, opening(spec), opening(spec))
    assert "request open is not expected inside a session" in str(error)


def test_a_session_by_hand(cloud: Cloud, spec: SessionSpec) -> None:
    """Open, step, apply, evaluate, close: the contract without the project's client."""
    replies = answer(
        cloud,
        opening(spec),
        step(1),
        pb.TrainRequest(apply=pb.Apply(step=1, learning_rate=1e-3, exchanges=1)),
        step(2),
        pb.TrainRequest(apply=pb.Apply(step=2, learning_rate=1e-3, exchanges=1)),
        pb.TrainRequest(evaluate=pb.Evaluate(activation=step().step.activation, lengths=[2, 1])),
        pb.TrainRequest(close=pb.Close()),
    )
    assert isinstance(replies, list), replies
    kinds = [reply.WhichOneof("response") for reply in replies]
    assert kinds == ["opened", "step_result", "step_result", "evaluation", "closed"]
    assert list(replies[0].opened.edge_factor.shape) == [32, 4]
    assert [replies[1].step_result.step, replies[2].step_result.step] == [1, 2]
    assert list(replies[1].step_result.gradient.shape) == [3, 4]
    assert list(replies[3].evaluation.logits.shape) == [2, 2]
    assert replies[4].closed.steps == 2 and not replies[4].closed.saved


def test_a_full_cloud_refuses_and_takes_the_next_when_one_leaves(
    cloud: Cloud, spec: SessionSpec, shape: ModelShape
) -> None:
    sessions = [opened(cloud, spec, shape) for _ in range(3)]
    assert len({session.session_id for session in sessions}) == 3
    with pytest.raises(CapacityError, match="3 of 3 sessions open"):
        opened(cloud, spec, shape)
    sessions.pop().close()
    sessions.append(opened(cloud, spec, shape))
    for session in sessions:
        session.close()


def test_a_vanished_edge_frees_its_place(
    cloud: Cloud, spec: SessionSpec, shape: ModelShape
) -> None:
    for _ in range(4):
        for session in [opened_when_free(cloud, spec, shape) for _ in range(3)]:
            session.abandon()
    opened_when_free(cloud, spec, shape).close()


def opened_when_free(cloud: Cloud, spec: SessionSpec, shape: ModelShape) -> GrpcSession:
    """Open a session, waiting until the cloud has noticed that others are gone."""
    for _ in range(200):
        try:
            return opened(cloud, spec, shape)
        except CapacityError:
            threading.Event().wait(0.05)
    raise AssertionError("no place was freed")


@pytest.mark.parametrize("good_first", [False, True])
def test_bytes_that_are_no_message_end_the_stream_with_its_status(
    cloud: Cloud, spec: SessionSpec, good_first: bool
) -> None:
    requests = [opening(spec).SerializeToString()] if good_first else []
    with grpc.insecure_channel(cloud.server) as channel:
        train = channel.stream_stream(f"/{SERVICE}/Train")
        with pytest.raises(grpc.RpcError) as raised:
            list(train(iter([*requests, b"\xff\xff\xff"])))
    error = error_of(raised.value)
    assert isinstance(error, ProtocolError)
    assert "a message of 3 bytes cannot be read" in str(error)
    assert serves(cloud)


def test_opening_does_not_count_as_waiting_for_a_step(
    cloud: Cloud, spec: SessionSpec, shape: ModelShape
) -> None:
    """Loading a model may take minutes; they are not seconds on the wire."""
    session = opened(cloud, spec, shape)
    traffic = session.traffic
    assert traffic.wire_seconds == traffic.cloud_seconds == 0
    exchange(session, 1, torch.zeros(3, 4), [2, 1], [0, 1])
    waited = traffic.wire_seconds, traffic.cloud_seconds
    assert min(waited) > 0
    session.apply(1, 0.0)
    session.close()
    assert (traffic.wire_seconds, traffic.cloud_seconds) == waited


def test_a_message_over_the_limit_is_refused_before_it_is_sent(
    cloud: Cloud, spec: SessionSpec, shape: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(cloud, spec, shape)
    monkeypatch.setattr(session.stream._stream, "limit_bytes", 1000)
    with pytest.raises(LimitError, match=r"over the limit of 1,000; choose a smaller --batch-size"):
        exchange(session, 1, torch.zeros(100, 4), [50, 50], [0, 1])
    session.abandon()


def test_the_limits_of_both_sides_hold(
    spec: SessionSpec, shape: ModelShape, tmp_path: Path
) -> None:
    """The smaller one holds; what is above it does not travel, or ends its session alone."""
    wide = torch.zeros(40_000, 4)  # 640,000 bytes
    with running_cloud(tmp_path / "cloud", "--max-message", 1) as small:
        for own, limit in ((2**30, "1,048,576"), (500_000, "500,000")):
            session = GrpcSession(access(small), spec, shape, max_message_bytes=own)
            rows = wide if own < 2**20 else torch.cat([wide, wide])
            with pytest.raises(LimitError, match=f"over the limit of {limit}; .* --max-message on"):
                session.begin_step(1, rows, [len(rows)], [0])
            session.abandon()
        session = GrpcSession(access(small), spec, shape)
        session.stream._stream.limit_bytes = 2**26  # an edge that does not care
        session.begin_step(1, torch.cat([wide, wide]), [80_000], [0])
        with pytest.raises(LimitError, match="1,280,000 bytes is over the limit of 1,048,576"):
            session.end_step()
        session.abandon()
        exchange(opened(small, spec, shape), 1, torch.zeros(4, 4), [3, 1], [0, 1])


def test_sessions_at_once_do_not_disturb_each_other(
    cloud: Cloud, tiny_model: Path, tmp_path: Path
) -> None:
    """Three edges at once, each with dropout, each as if it were alone."""
    data = write_rows(tmp_path / "data", ROWS, ROWS[:8])
    line = [
        *("--task", "sst2", "--model", tiny_model, "--data", data, "--server", cloud.server),
        *("--rank", 4, "--batch-size", 8, "--log-every", 1, "--learning-rate", 1e-3),
    ]

    def go(name: str, seed: int) -> None:
        train(tmp_path / "runs", *line, "--seed", seed, name=name)

    go("alone", 1)
    threads = [threading.Thread(target=go, args=(f"s{seed}", seed)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def losses(name: str) -> list[float]:
        return [entry["loss"] for entry in history(tmp_path / "runs", name)]

    assert losses("s1") == losses("alone")
    assert losses("s1") != losses("s2") != losses("s3")


def test_reflection_names_the_service(cloud: Cloud) -> None:
    with grpc.insecure_channel(cloud.server) as channel:
        services = list(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert SERVICE in services


def test_the_health_command(cloud: Cloud) -> None:
    done = run("sft-cloud", "health", "--server", cloud.server)
    assert (done.returncode, done.stdout) == (0, "SERVING\n")
    done = run("sft-cloud", "health", "--server", "127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("sft-cloud: no cloud answers at 127.0.0.1:9")


def test_a_folder_given_to_the_cloud_is_found_by_its_name(
    spec: SessionSpec, tiny_model: Path, tmp_path: Path
) -> None:
    with running_cloud(tmp_path, "--model", tiny_model) as cloud:
        replies = answer(
            cloud, opening(spec, model__name="tiny-bert"), pb.TrainRequest(close=pb.Close())
        )
        assert isinstance(replies, list), replies


def test_a_cloud_open_to_others_takes_no_paths(spec: SessionSpec, tmp_path: Path) -> None:
    with running_cloud(tmp_path, "--host", "0.0.0.0", "--insecure") as cloud:
        error = answer(cloud, opening(spec))
        assert type(error) is ModelError
        assert "no model folder named 'tiny-bert' (it has: none;" in str(error)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_cloud_cleanly_and_tells_its_edges(
    spec: SessionSpec, shape: ModelShape, tmp_path: Path, number: signal.Signals
) -> None:
    with running_cloud(tmp_path, "--grace", 20) as cloud:
        session = opened(cloud, spec, shape)
        exchange(session, 1, torch.zeros(3, 4), [2, 1], [0, 1])
        session.apply(1, 1e-3)
        os.kill(cloud.process.pid, number)
        with pytest.raises(RetryLaterError, match="the cloud is stopping; it keeps no sessions"):
            for _ in range(10_000):
                session.begin_evaluation(torch.zeros(3, 4), [2, 1])
                session.end_evaluation()
        session.abandon()
        assert cloud.process.wait(timeout=30) == 0
        assert cloud.log.read_text().endswith("sft-cloud stopped\n")


def test_a_killed_cloud_is_one_clear_line(
    spec: SessionSpec, shape: ModelShape, tmp_path: Path
) -> None:
    with running_cloud(tmp_path) as cloud:
        session = opened(cloud, spec, shape)
        cloud.process.kill()
        with pytest.raises(UnreachableError, match="connection to the cloud at .* was lost"):
            exchange(session, 1, torch.zeros(3, 4), [2, 1], [0, 1])
        session.abandon()


def test_memory_is_given_back_after_sessions(tmp_path: Path) -> None:
    """Twelve sessions of 40 MB each, closed or put away, must not add up."""
    big = save_tiny_model(tmp_path / "big", hidden_size=256, intermediate_size=1024)
    pretrained = Pretrained(big, num_labels=2)
    spec = SessionSpec(
        model=pretrained.identity(str(big)), split=SplitSpec(split_layer=1, rank=4), num_labels=2
    )
    shape = shape_of(pretrained.config)
    with running_cloud(tmp_path / "cloud", "--save-dir", tmp_path / "kept") as cloud:
        sizes = []
        for turn in range(12):
            session = opened(cloud, spec, shape)
            exchange(session, 1, torch.zeros(64, 4), [32, 32], [0, 1])
            session.apply(1, 1e-3)
            if turn % 2:
                session.close()
            else:
                assert session.park()
            sizes.append(resident_bytes(cloud.process.pid))
    assert sizes[-1] - sizes[3] < 120e6, sizes
