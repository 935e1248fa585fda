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
from sft_cloud.session import MAX_APART, Session
from sft_common.config import SplitSpec
from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position
from sft_common.snapshots import Snapshot, Snapshots
from sft_common.wire.codec import tensor_to_parts
from tests.doubles import open_session
from tests.models import save_tiny_model

LENGTHS, LABELS = [3, 1], [0, 1]

SHARES = st.sampled_from([1.0, 0.5, 0.25])

ANSWERS: dict[str, answers.Work] = {**answers.WORK, "apart": answers.step}

BFLOAT16 = pb.Autocast(computes=pb.ELEMENT_TYPE_BFLOAT16, activation=pb.ELEMENT_TYPE_BFLOAT16)

Sent = tuple[str, int, int, float | int | None]
"""Kind, step and place of an exchange, and what else it says: a share, or its forward's place."""


def asked(sent: Sent) -> tuple[Any, memoryview]:
    """Return a request whose numbers hang on its place alone, as those of one that is repeated."""
    kind, step, exchange, more = sent
    generator = torch.Generator().manual_seed((100 * step + exchange) % 2**32)
    width = 2 if kind == "backward" else 4
    rows = torch.randn(len(LENGTHS) if kind == "backward" else 4, width, generator=generator)
    tensor, numbers = tensor_to_parts(rows)
    message: Any
    match kind:
        case "step" | "apart":
            message = pb.Step(activation=tensor, lengths=LENGTHS, labels=LABELS)
            message.share = more
            message.apart = kind == "apart"
        case "forward":
            message = pb.Forward(activation=tensor, lengths=LENGTHS)
        case _:
            message = pb.Backward(gradient=tensor)
            message.forward = more
    if kind != "backward" and exchange % 3 == 2:
        message.autocast.CopyFrom(BFLOAT16)
    message.step, message.exchange = step, exchange
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
        self.applied = 0
        self.sent, self.replies = list[Sent](), list[bytes]()
        self.joined, self.drops = list[int](), 0
        self.kept: tuple[Snapshot, Any] | None = None

    @property
    def shares(self) -> list[float]:
        return [more for kind, _, _, more in self.sent if kind == "step" and more is not None]

    @property
    def waiting(self) -> list[int]:
        """Places of the passes whose backward has not come."""
        used = [more for kind, _, _, more in self.sent if kind == "backward"]
        return [place for kind, _, place, _ in self.sent if kind == "forward" and place not in used]

    @property
    def apart(self) -> list[int]:
        """Places of the losses of which nobody has said what they count."""
        every = [place for kind, _, place, _ in self.sent if kind == "apart"]
        return [place for place in every if place not in self.joined]

    def send(self, session: Session, sent: Sent) -> bytes:
        message, numbers = asked(sent)
        response, data = ANSWERS[sent[0]](session, message, numbers, 0.0)
        answers.time_of(response).Clear()
        return response.SerializeToString() + bytes(data)

    def take(self, kind: str, more: float | int | None = None) -> None:
        """Send both what comes next."""
        sent = kind, self.applied + 1, len(self.sent), more
        reply = self.send(self.session, sent)
        assert reply == self.send(self.twin, sent)
        self.sent.append(sent)
        self.replies.append(reply)

    @rule(share=SHARES)
    def next_micro_batch(self, share: float) -> None:
        self.take("step", share)

    @rule()
    def next_forward(self) -> None:
        self.take("forward")

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def next_backward(self, data: st.DataObject) -> None:
        self.take("backward", data.draw(st.sampled_from(self.waiting)))

    @rule()
    def next_loss(self) -> None:
        if len(self.apart) < MAX_APART:
            self.take("apart", 1.0)
            return
        with pytest.raises(LimitError, match="2 losses of step . wait for their backward already"):
            self.send(self.session, ("apart", self.applied + 1, len(self.sent), 1.0))

    @precondition(lambda self: self.apart)
    @rule(data=st.data(), factor=st.sampled_from([1.0, 0.5, 0.0, -2.0]))
    def factor(self, data: st.DataObject, factor: float) -> None:
        place = data.draw(st.sampled_from(self.apart))
        for session in (self.session, self.twin):
            session.take_factor(self.applied + 1, place, factor)
        self.joined.append(place)

    @rule(place=st.integers(0, 9), step=st.integers(0, 5))
    def factor_of_nothing_or_once_more(self, place: int, step: int) -> None:
        now = step == self.applied + 1
        if now and place in self.apart:
            return
        if step <= self.applied or (now and place in self.joined):
            self.session.take_factor(step, place, 7.0)
            return
        with pytest.raises(ProtocolError, match=f"factor names exchange {place} of step {step}"):
            self.session.take_factor(step, place, 7.0)

    @rule(groups=st.sampled_from([[0], [1], [0, 1], []]))
    def drop(self, groups: list[int]) -> None:
        for session in (self.session, self.twin):
            session.drop(self.applied + 1, self.drops, groups)
        self.drops += 1

    @rule(number=st.integers(0, 5), step=st.integers(0, 5))
    def drop_once_more_or_out_of_order(self, number: int, step: int) -> None:
        now = step == self.applied + 1
        if now and number == self.drops:
            with pytest.raises(ProtocolError, match="drop names group 2; the optimizer has 2"):
                self.session.drop(step, number, [0, 2])
        elif step <= self.applied or (now and number < self.drops):
            self.session.drop(step, number, [0, 1])
        else:
            with pytest.raises(ProtocolError, match=f"drop {number} of step {step} came, drop "):
                self.session.drop(step, number, [0])

    @rule(forward=st.integers(0, 9))
    def backward_of_no_forward(self, forward: int) -> None:
        if forward in self.waiting:
            return
        with pytest.raises(ProtocolError, match=f"backward names exchange {forward} of step"):
            self.send(self.session, ("backward", self.applied + 1, len(self.sent), forward))

    @precondition(lambda self: self.replies)
    @rule(data=st.data())
    def repeated_exchange(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.replies) - 1))
        assert self.send(self.session, self.sent[number]) == self.replies[number]

    @rule(
        kind=st.sampled_from([*ANSWERS]),
        step=st.integers(0, 5) | st.just(2**64 - 1),
        number=st.integers(0, 5),
    )
    def exchange_out_of_order(self, kind: str, step: int, number: int) -> None:
        if step == self.applied + 1 and number <= len(self.sent):
            return
        more = {"step": 0.5, "apart": 1.0, "forward": None, "backward": 0}[kind]
        with pytest.raises(ProtocolError, match="was expected|before apply"):
            self.send(self.session, (kind, step, number, more))

    @rule(share=st.sampled_from([0.0, -1.0, 1.5, float("nan")]))
    def impossible_share(self, share: float) -> None:
        with pytest.raises(ProtocolError, match="has share"):
            self.send(self.session, ("step", self.applied + 1, len(self.sent), share))

    @rule(rate=st.sampled_from([0.0, 1e-3]), more=st.integers(-1, 1))
    def apply(self, rate: float, more: int) -> None:
        step, count = self.applied + 1, len(self.sent) + more
        backward = self.joined or any(kind == "backward" for kind, *_ in self.sent)
        whole = abs(sum(self.shares) - 1) <= 1e-6 if self.shares else backward
        if more or not whole:
            with pytest.raises(ProtocolError, match="apply"):
                self.session.apply(step, rate, exchanges=count)
            return
        for session in (self.session, self.twin):
            session.apply(step, rate, exchanges=count)
        self.applied, self.sent, self.replies, self.joined = step, [], [], []
        self.drops = 0

    @rule(rate=st.floats(0, 1))
    def repeated_apply(self, rate: float) -> None:
        if self.applied:  # whatever has come of the next step
            self.session.apply(self.applied, rate, exchanges=7)
        else:
            with pytest.raises(ProtocolError, match="apply names step"):
                self.session.apply(self.applied, rate)

    @rule(step=st.integers(0, 9), rate=st.sampled_from([-1.0, float("nan"), float("inf")]))
    def impossible_apply(self, step: int, rate: float) -> None:
        if not self.session.has_applied(step):
            with pytest.raises(ProtocolError, match="apply"):
                self.session.apply(step, rate, exchanges=len(self.sent))

    @rule()
    def evaluate(self) -> None:
        x = torch.ones(4, 4)
        if self.sent:
            with pytest.raises(ProtocolError, match="evaluate came before apply"):
                self.session.evaluate(x, LENGTHS)
        else:
            mine, its = (s.evaluate(x, LENGTHS) for s in (self.session, self.twin))
            assert torch.equal(mine, its)

    @rule()
    def numbers_that_are_none(self) -> None:
        tensor, numbers = tensor_to_parts(torch.full((4, 4), float("nan")))
        message = asked(("step", self.applied + 1, len(self.sent), 0.5))[0]
        message.activation.CopyFrom(tensor)
        with pytest.raises(ProtocolError, match="activation holds nan"):
            answers.step(self.session, message, numbers, 0.0)

    @rule()
    def snapshot(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            Snapshots(Path(place)).write("it", self.session.snapshot())
            found = Snapshots(Path(place)).read("it")
        twin = copy.deepcopy(self.twin.snapshot())
        self.kept = (
            found,
            (
                (twin, self.applied, self.drops),
                list(self.sent),
                list(self.replies),
                list(self.joined),
            ),
        )

    @precondition(lambda self: self.kept is not None)
    @rule()
    def restore(self) -> None:
        assert self.kept is not None
        found, ((twin, self.applied, self.drops), sent, replies, joined) = self.kept
        self.session.restore(found)
        self.twin.restore(twin)
        self.sent, self.replies, self.joined = list(sent), list(replies), list(joined)

    @rule()
    def go_to_the_state(self) -> None:
        """Nothing of the step under way is left, but what it has drawn."""
        with tempfile.TemporaryDirectory() as place:
            Snapshots(Path(place)).write("it", self.session.state())
            self.session.restore(Snapshots(Path(place)).read("it"))
        self.twin.restore(copy.deepcopy(self.twin.state()))
        self.sent, self.replies, self.joined, self.drops = [], [], [], 0

    @invariant()
    def the_position_is_that_of_what_was_taken(self) -> None:
        if hasattr(self, "session"):
            assert self.session.position == Position(self.applied, len(self.sent))

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
