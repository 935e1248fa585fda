"""Parameters of net2 that come from the edge before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sft_cloud import answers
from sft_cloud.session import Session
from sft_common.config import SplitSpec
from sft_common.errors import MismatchError, ProtocolError
from sft_common.model.identity import digest_of
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.snapshots import Snapshots
from sft_common.wire.codec import tensor_to_parts
from tests.doubles import open_session

SPLIT = SplitSpec(split_layer=2, rank=4)

V = "bert.encoder.layer.1.cut.v"


@pytest.fixture
def session(tiny_model: Path) -> Session:
    return open_session(tiny_model, SPLIT)[0]


def known(session: Session) -> dict[str, bytes]:
    return {name: digest_of(weight) for name, weight in session.weights().items()}


def send(session: Session, name: str, rows: Tensor, first: int = 0) -> None:
    tensor, numbers = tensor_to_parts(rows)
    answers.weights(session, pb.Weights(name=name, rows=tensor, first=first), numbers)


def step(session: Session) -> None:
    session.step(1, torch.randn(4, 4), [3, 1], [0, 1])


def test_only_what_differs_is_asked_for_and_taken_in_rows(session: Session) -> None:
    weights = {name: weight.clone() for name, weight in session.weights().items()}
    digests = known(session)
    session.arriving.expect(digests)
    assert session.arriving.wanted == []
    new = torch.randn(weights[V].shape)
    session.arriving.expect(digests | {V: digest_of(new)})
    assert session.arriving.wanted == [V]
    with pytest.raises(ProtocolError, match=f"weights of 1 parameters have not come: {V}"):
        step(session)
    with pytest.raises(ProtocolError, match="have not come"):
        session.evaluate(torch.randn(4, 4), [3, 1])
    send(session, V, new[:3])
    send(session, V, new[2:], first=2)  # sent again with what follows, by an edge that was cut off
    send(session, V, new[:1])
    assert torch.equal(session.weights()[V], new)
    others = session.weights().keys() - {V}
    assert all(torch.equal(session.weights()[name], weights[name]) for name in others)
    step(session)
    send(session, V, new)  # sent again, since no answer to the step has come
    session.apply(1, 1e-3)
    assert not torch.equal(session.weights()[V], new)
    with pytest.raises(ProtocolError, match=f"weights of '{V}' came, which were not asked for"):
        send(session, V, new)


def test_what_has_come_is_in_a_snapshot(session: Session, tiny_model: Path, tmp_path: Path) -> None:
    new = torch.randn(session.weights()[V].shape)
    session.arriving.expect(known(session) | {V: digest_of(new)})
    send(session, V, new[:3])
    Snapshots(tmp_path).write("it", session.snapshot())
    other = open_session(tiny_model, SPLIT, seed=9)[0]
    other.restore(Snapshots(tmp_path).read("it"))
    with pytest.raises(ProtocolError, match="have not come"):
        step(other)
    send(other, V, new[3:], first=3)
    step(other)
    assert torch.equal(other.weights()[V], new)


def test_another_net2_is_refused(session: Session) -> None:
    digests = known(session)
    with pytest.raises(MismatchError, match="net2 has no 'classifier.extra', and 0 more differ"):
        session.arriving.expect(digests | {"classifier.extra": b""})
    del digests[V]
    with pytest.raises(MismatchError, match=f"the edge has no '{V}'"):
        session.arriving.expect(digests)


@pytest.mark.parametrize(
    ("name", "rows", "first", "message"),
    [
        ("classifier.bias", torch.zeros(2), 0, "weights of 'classifier.bias' came, which were not"),
        (V, torch.zeros(0, 64), 0, f"0 rows of {V} came, which has 4"),
        (V, torch.zeros(5, 64), 0, f"5 rows of {V} came, which has 4"),
        (V, torch.zeros(2, 63), 0, r"rows of weights has shape \(2, 63\), expected \(2, 64\)"),
        (V, torch.zeros(2, 64), 1, "rows 1 to 3 of .* came; 0 of 4 are there"),
        (V, torch.zeros(4, 64), 2**63, "of 4 are there"),
        (V, torch.full((4, 64), torch.inf), 0, "rows of weights holds inf"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    session: Session, name: str, rows: Tensor, first: int, message: str
) -> None:
    before = {each: weight.clone() for each, weight in session.weights().items()}
    session.arriving.expect(known(session) | {V: b""})
    with pytest.raises(ProtocolError, match=message):
        send(session, name, rows, first)
    assert all(torch.equal(before[each], w) for each, w in session.weights().items())
