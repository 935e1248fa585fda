"""An edge whose cloud answers whatever it likes: an SftError, never a hang or a crash."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import grpc
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_grammar import Grammar
from sft_common import PROTOCOL_VERSION
from sft_common.config import ModelIdentity, ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ProtocolError, SftError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.plan import Plan
from sft_common.rpc.access import Access
from sft_common.rpc.options import SERVICE
from sft_common.wire.codec import tensor_to_proto
from sft_edge.calls import fetch_trained, follow_training
from sft_edge.client import GrpcSession
from sft_edge.traffic import Traffic

SHAPE = ModelShape(blocks=4, hidden=32, feed_forward=64, positions=64, heads=4)

SPEC = SessionSpec(
    model=ModelIdentity(name="tiny"), split=SplitSpec(split_layer=2, rank=4), num_labels=2
)

OPENED = pb.TrainResponse(
    opened=pb.Opened(
        protocol_version=PROTOCOL_VERSION,
        session_id="ab12" * 4,
        edge_factor=tensor_to_proto(torch.randn(32, 4)),
        max_message_bytes=2**20,
        device="cpu",
    )
)

ANSWERS = [
    OPENED,
    pb.TrainResponse(
        step_result=pb.StepResult(step=1, loss=0.5, gradient=tensor_to_proto(torch.randn(4, 4)))
    ),
    pb.TrainResponse(evaluation=pb.Evaluation(logits=tensor_to_proto(torch.randn(2, 2)))),
    pb.TrainResponse(running=pb.Running(total_steps=7)),
    pb.TrainResponse(closed=pb.Closed(steps=1)),
]
"""What a right cloud says to what `talk` asks."""

EVENTS = [
    pb.FollowResponse(stepped=pb.Stepped(step=1)),
    pb.FollowResponse(judged=pb.Judged(step=1, logits=tensor_to_proto(torch.randn(2, 2)))),
    pb.FollowResponse(finished=pb.Finished(steps=1)),
]


class Cloud:
    """Says what it is told to say, one message for each that is asked; then it ends the stream."""

    def __init__(self) -> None:
        self.says: list[bytes] = []
        pool = ThreadPoolExecutor(4)
        self.server = grpc.server(pool)
        methods = {
            "Train": grpc.stream_stream_rpc_method_handler(self.train),
            "Follow": grpc.unary_stream_rpc_method_handler(self.all),
            "Export": grpc.unary_stream_rpc_method_handler(self.all),
        }
        handler = grpc.method_handlers_generic_handler(SERVICE, methods)
        self.server.add_generic_rpc_handlers([handler])
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.access = Access(server=f"127.0.0.1:{port}", connect_seconds=20)

    def train(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        for said in list(self.says):
            request = next(requests, None)
            while request is not None and request[:1] == b"\x12":  # an apply has no answer
                request = next(requests, None)
            yield said

    def all(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from self.says


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    running = Cloud()
    yield running
    running.server.stop(None).wait()


def talk(cloud: Cloud) -> None:
    """Go through a session; what a person is told moves no cursor."""
    session = GrpcSession(cloud.access, SPEC, SHAPE)
    said: list[str] = []
    session.stream.say = said.append
    try:
        assert session.session_id.isalnum() and session.device.isprintable()
        session.begin_step(1, torch.randn(4, 4), [3, 1], [0, 1])
        loss, gradient = session.end_step()
        assert isinstance(loss, float) and gradient.shape == (4, 4)
        session.apply(1, 1e-3)
        session.begin_evaluation(torch.randn(4, 4), [3, 1])
        assert session.end_evaluation().shape == (2, 2)
        session.run(Plan(epochs=1, batch_size=1, learning_rate=0.1, seed=0))
        session.close()
    finally:
        session.abandon()
        assert all(line.isprintable() for line in said)


def test_a_right_cloud_is_understood(cloud: Cloud) -> None:
    cloud.says = [answer.SerializeToString() for answer in ANSWERS]
    talk(cloud)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 2**32),
    st.integers(0, len(ANSWERS) - 1),
    st.sampled_from(["spoil", "drop", "twice"]),
)
@example(0, 0, "drop")
def test_a_wrong_answer_is_an_error_of_this_software(
    cloud: Cloud, seed: int, at: int, how: str
) -> None:
    grammar = Grammar(Random(seed), SPEC, SHAPE, {})
    cloud.says = [answer.SerializeToString() for answer in ANSWERS]
    match how:
        case "spoil":
            cloud.says[at] = grammar.spoiled(ANSWERS[at])
        case "drop":
            del cloud.says[at]
        case "twice":
            cloud.says.insert(at, cloud.says[at])
    try:
        talk(cloud)
    except SftError as error:
        assert len(str(error)) < 5000


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(0, len(EVENTS) - 1))
def test_a_wrong_story_of_a_training_too(cloud: Cloud, seed: int, at: int) -> None:
    cloud.says = [event.SerializeToString() for event in EVENTS]
    cloud.says[at] = Grammar(Random(seed), SPEC, SHAPE, {}).spoiled(EVENTS[at])
    try:
        list(follow_training(cloud.access, "ab12" * 4, Traffic()))
    except SftError as error:
        assert len(str(error)) < 5000


def test_a_verdict_of_a_thousand_dimensions_is_refused(cloud: Cloud) -> None:
    """Their product has more digits than Python writes."""
    judged = pb.Judged(step=1, logits=pb.Tensor(shape=[2**32 - 1] * 1000, element_type=1))
    cloud.says = [pb.FollowResponse(judged=judged).SerializeToString()]
    with pytest.raises(ProtocolError, match="logits have 1000 dimensions, at most 2 were expected"):
        list(follow_training(cloud.access, "ab12" * 4, Traffic()))


def test_a_half_of_another_size_than_announced_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    for pieces in ([], [(b"abc", 0)], [(b"abc", 2)], [(b"abc", 4)], [(b"", 2**63), (b"abc", 5)]):
        cloud.says = [
            pb.ExportResponse(data=data, total_bytes=total).SerializeToString()
            for data, total in pieces
        ]
        with pytest.raises(ProtocolError, match="the cloud sent"):
            fetch_trained(cloud.access, "ab12" * 4, tmp_path / "half")


@pytest.mark.parametrize("name", ["", "../up", "a b", "x" * 65, "ab\x1b[2J"])
def test_a_session_that_is_named_otherwise_than_any_is_refused(cloud: Cloud, name: str) -> None:
    """The name goes into files and onto screens."""
    answer = pb.TrainResponse()
    answer.CopyFrom(OPENED)
    answer.opened.session_id = name
    cloud.says = [answer.SerializeToString()]
    with pytest.raises(ProtocolError, match="the cloud names the session '"):
        GrpcSession(cloud.access, SPEC, SHAPE)
