"""Any order of requests: right ones are taken, others refused, repeats change nothing."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sft_cloud import answers
from sft_cloud.session import Session
from sft_common.config import SplitSpec
from sft_common.errors import ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position
from sft_common.snapshots import Snapshot, Snapshots
from sft_common.wire.codec import tensor_to_parts
from tests.doubles import open_session
from tests.models import save_tiny_model

LENGTHS, LABELS = [3, 1], [0, 1]

SHARES = st.sampled_from([1.0, 0.5, 0.25])


def asked(step: int, micro_batch: int, share: float) -> tuple[pb.Step, memoryview]:
    """Return a step whose numbers hang on its number alone, as those of an edge that repeats it."""
    generator = torch.Generator().manual_seed((100 * step + micro_batch) % 2**32)
    tensor, numbers = tensor_to_parts(torch.randn(4, 4, generator=generator))
    message = pb.Step(
        step=step, micro_batch=micro_batch, activation=tensor, lengths=LENGTHS, labels=LABELS
    )
    message.share = share
    return message, numbers


class Requests(RuleBasedStateMachine):
    """A session, a plain twin that never sees a repeat, and a simple model of both."""

    pair: tuple[Session, Session]
    fresh: Snapshot

    @initialize()
    def begin(self) -> None:
        self.session, self.twin = self.pair
        for session in self.pair:
            session.restore(self.fresh)
        self.applied, self.shares, self.replies = 0, list[float](), list[bytes]()
        self.kept: tuple[Snapshot, Any] | None = None

    def send(self, session: Session, step: int, micro_batch: int, share: float) -> bytes:
        message, numbers = asked(step, micro_batch, share)
        response, data = answers.step(session, message, numbers, 0.0)
        response.step_result.ClearField("cloud_time")
        return response.SerializeToString() + bytes(data)

    @rule(share=SHARES)
    def next_micro_batch(self, share: float) -> None:
        place = self.applied + 1, len(self.shares), share
        reply = self.send(self.session, *place)
        assert reply == self.send(self.twin, *place)
        self.shares.append(share)
        self.replies.append(reply)

    @precondition(lambda self: self.replies)
    @rule(data=st.data())
    def repeated_micro_batch(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.replies) - 1))
        assert self.send(self.session, self.applied + 1, number, 0.7) == self.replies[number]

    @rule(step=st.integers(0, 5) | st.just(2**64 - 1), number=st.integers(0, 5))
    def micro_batch_out_of_order(self, step: int, number: int) -> None:
        if step == self.applied + 1 and number <= len(self.shares):
            return
        with pytest.raises(ProtocolError, match="was expected|before apply"):
            self.send(self.session, step, number, 0.5)

    @rule(share=st.sampled_from([0.0, -1.0, 1.5, float("nan")]))
    def impossible_share(self, share: float) -> None:
        with pytest.raises(ProtocolError, match="has share"):
            self.send(self.session, self.applied + 1, len(self.shares), share)

    @rule(rate=st.sampled_from([0.0, 1e-3]), more=st.integers(-1, 1))
    def apply(self, rate: float, more: int) -> None:
        step, count = self.applied + 1, len(self.shares) + more
        if not self.shares or more or abs(sum(self.shares) - 1) > 1e-6:
            with pytest.raises(ProtocolError, match="apply"):
                self.session.apply(step, rate, micro_batches=count)
            return
        for session in (self.session, self.twin):
            session.apply(step, rate, micro_batches=count)
        self.applied, self.shares, self.replies = step, [], []

    @rule(rate=st.floats(0, 1))
    def repeated_apply(self, rate: float) -> None:
        if self.applied:  # whatever has come of the next step
            self.session.apply(self.applied, rate, micro_batches=7)
        else:
            with pytest.raises(ProtocolError, match="apply names step"):
                self.session.apply(self.applied, rate)

    @rule(step=st.integers(0, 9), rate=st.sampled_from([-1.0, float("nan"), float("inf")]))
    def impossible_apply(self, step: int, rate: float) -> None:
        if not self.session.has_applied(step):
            with pytest.raises(ProtocolError, match="apply"):
                self.session.apply(step, rate, micro_batches=len(self.shares))

    @rule()
    def evaluate(self) -> None:
        x = torch.ones(4, 4)
        if self.shares:
            with pytest.raises(ProtocolError, match="evaluate came before apply"):
                self.session.evaluate(x, LENGTHS)
        else:
            mine, its = (s.evaluate(x, LENGTHS) for s in (self.session, self.twin))
            assert torch.equal(mine, its)

    @rule()
    def numbers_that_are_none(self) -> None:
        tensor, numbers = tensor_to_parts(torch.full((4, 4), float("nan")))
        message = asked(self.applied + 1, len(self.shares), 0.5)[0]
        message.activation.CopyFrom(tensor)
        with pytest.raises(ProtocolError, match="activation holds nan"):
            answers.step(self.session, message, numbers, 0.0)

    @rule()
    def snapshot(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            Snapshots(Path(place)).write("it", self.session.snapshot())
            found = Snapshots(Path(place)).read("it")
        twin = copy.deepcopy(self.twin.snapshot())
        self.kept = found, (twin, self.applied, list(self.shares), list(self.replies))

    @precondition(lambda self: self.kept is not None)
    @rule()
    def restore(self) -> None:
        assert self.kept is not None
        found, (twin, self.applied, shares, replies) = self.kept
        self.session.restore(found)
        self.twin.restore(twin)
        self.shares, self.replies = list(shares), list(replies)

    @invariant()
    def the_position_is_that_of_what_was_taken(self) -> None:
        if hasattr(self, "session"):
            assert self.session.position == Position(self.applied, len(self.shares))

    @invariant()
    def the_weights_are_those_without_repeats_and_refusals(self) -> None:
        if hasattr(self, "session"):
            its = self.twin.weights()
            assert all(torch.equal(w, its[name]) for name, w in self.session.weights().items())


def test_any_order_of_requests(tmp_path_factory: pytest.TempPathFactory) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    folder = save_tiny_model(tmp_path_factory.mktemp("machine") / "bert", **sizes)
    split = SplitSpec(split_layer=2, rank=4)
    first, second = (open_session(folder, split, dropout=0.1)[0] for _ in range(2))
    Requests.pair, Requests.fresh = (first, second), copy.deepcopy(first.snapshot())
    case: Any = Requests.TestCase()
    case.settings = settings(
        max_examples=30,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    case.runTest()
