"""Whatever comes is read rightly or refused with a ProtocolError, before it takes memory."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.processes import resident_bytes
from sft_common.config import ENCODINGS
from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.codec import check_finite, encoding_to_proto, numbers_of, tensor_from_parts
from sft_common.wire.encodings import ENCODING_TABLE
from sft_common.wire.framing import read, written
from sft_common.wire.pieces import Joiner
from sft_common.wire.weighing import FIELD_BYTES, LIGHT_BYTES, MOST_BYTES, weight

SHAPES = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 5), max_size=4)
NAMES = st.sampled_from(ENCODINGS)


@given(st.binary(max_size=200), SHAPES, SHAPES, st.integers(-(2**31), 2**31 - 1), NAMES, st.data())
def test_numbers_are_the_right_ones_or_refused(
    numbers: bytes, shape: list[int], expected: list[int], kind: int, name: str, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        expected, kind = shape, encoding_to_proto(name)
    message = pb.Tensor(shape=shape, element_type=kind)
    try:
        tensor = tensor_from_parts(message, numbers, expected, "it", name)
    except ProtocolError:
        return
    width = expected[-1] if expected else 1
    assert (list(tensor.shape), kind) == (shape, encoding_to_proto(name))
    assert len(numbers) == math.prod(shape[:-1]) * ENCODING_TABLE[name].row_bytes(width)


@given(NAMES, st.integers(1, 4), st.integers(1, 9), st.data())
def test_numbers_of_the_right_size_are_what_their_bytes_say(
    name: str, rows: int, width: int, data: st.DataObject
) -> None:
    size = rows * ENCODING_TABLE[name].row_bytes(width)
    raw = data.draw(st.binary(min_size=size, max_size=size))
    message = pb.Tensor(shape=[rows, width], element_type=encoding_to_proto(name))
    tensor = tensor_from_parts(message, raw, (rows, width), "it", name)
    again = numbers_of(bytearray(raw), (rows, width), name)
    assert torch.equal(tensor.view(torch.int32), again.view(torch.int32))
    if tensor.isfinite().all():
        check_finite(tensor, "it")
    else:
        with pytest.raises(ProtocolError, match="it holds (nan|-?inf) at"):
            check_finite(tensor, "it")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ENCODINGS)
def test_a_row_that_is_not_finite_is_refused(name: str, wrong: float) -> None:
    rows = torch.randn(5, 7)
    rows[3, 2] = wrong
    encoded = ENCODING_TABLE[name].encode(rows)
    if name in ("int8", "int4"):  # a peer may write any scale
        encoded[3, :2] = torch.tensor(list(struct.pack("<f", wrong)[2:]))
    arrived = numbers_of(bytearray(encoded.numpy().tobytes()), (5, 7), name)
    if not arrived.isfinite().all():
        with pytest.raises(ProtocolError, match=r"x holds (nan|-?inf) at \(3, \d\); only finite"):
            check_finite(arrived, "x")


def test_large_numbers_are_finite_even_if_their_sum_is_not() -> None:
    check_finite(torch.full((4, 4), 3e38), "x")


def test_a_shape_of_a_million_dimensions_is_refused_in_a_short_line() -> None:
    message = pb.Tensor(shape=[7] * 10**6, element_type=1)
    with pytest.raises(ProtocolError, match=r"^x has shape \(7, 7, 7\), expected \(2, 3\)$"):
        tensor_from_parts(message, b"", (2, 3), "x")


def step(size: int = 0, labels: int = 0) -> pb.TrainRequest:
    tensor = pb.Tensor(data=bytes(size), shape=[3, 4], element_type=1)
    return pb.TrainRequest(step=pb.Step(activation=tensor, lengths=[3], labels=[1] * labels))


def test_a_message_that_is_heavy_without_its_numbers_is_refused_unparsed() -> None:
    """Every byte of it would take eight."""
    raw = step(labels=MOST_BYTES).SerializeToString()
    with pytest.raises(LimitError, match=r"or more besides the numbers .* limit of 4,194,304"):
        read(raw, pb.TrainRequest)
    snapshots = pb.TrainRequest(resume=pb.Resume(snapshots=[2**63] * (MOST_BYTES // 9)))
    with pytest.raises(LimitError, match="besides the numbers"):
        read(snapshots.SerializeToString(), pb.TrainRequest)


@pytest.mark.timeout(60)
def test_millions_of_empty_fields_are_refused_soon() -> None:
    with pytest.raises(LimitError, match="besides the numbers"):
        read(b"\x52\x00" * 2**24, pb.TrainRequest)


def test_large_numbers_in_the_message_itself_are_read() -> None:
    """Other programs need not know the form of this one, nor pieces."""
    message = step(3 * LIGHT_BYTES, labels=1000)
    found, numbers = read(message.SerializeToString(), pb.TrainRequest)
    assert found == message and len(numbers) == 3 * LIGHT_BYTES
    basis = pb.Basis(mean=pb.Tensor(data=bytes(3 * LIGHT_BYTES)))
    opening = pb.TrainRequest(open=pb.Open(basis=basis))
    assert read(opening.SerializeToString(), pb.TrainRequest)[0] == opening


@given(st.binary(max_size=300))
@example(b"\x0b")
def test_any_bytes_have_a_weight_or_none(raw: bytes) -> None:
    try:
        found = weight(raw, pb.TrainRequest.DESCRIPTOR, 0, len(raw))
    except IndexError:
        return
    assert 0 <= found <= (FIELD_BYTES + 1) * len(raw)


@given(st.integers(0, 5000), st.integers(0, 50))
def test_numbers_weigh_nothing(size: int, labels: int) -> None:
    raw, without = step(size, labels).SerializeToString(), step(1, labels).SerializeToString()
    kind = pb.TrainRequest.DESCRIPTOR
    found, bare = weight(raw, kind, 0, len(raw)), weight(without, kind, 0, len(without))
    assert bare - FIELD_BYTES <= found <= bare


MESSAGES = st.sampled_from(
    [
        written(step(), bytes(48)),
        step(48, labels=5).SerializeToString(),
        pb.TrainRequest(open=pb.Open(head="regression", split=pb.Split(cut="sft"))),
        pb.TrainRequest(resume=pb.Resume(session_id="ab", snapshots=[1, 2**63])),
        pb.TrainRequest(piece=pb.Piece(data=b"abc")),
    ]
).map(lambda message: message if isinstance(message, bytes) else message.SerializeToString())

CHANGES = st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=4)), max_size=4)


@given(MESSAGES, CHANGES)
def test_a_changed_message_is_refused_or_read_like_others_read_it(
    raw: bytes, changes: list[tuple[int, bytes]]
) -> None:
    for at, new in changes:
        raw = raw[: at % (len(raw) + 1)] + new + raw[at % (len(raw) + 1) + 1 :]
    try:
        expected = pb.TrainRequest.FromString(raw)
    except Exception:
        with pytest.raises(ProtocolError):
            read(raw, pb.TrainRequest)
        return
    found, _ = read(raw, pb.TrainRequest)
    assert found.WhichOneof("request") == expected.WhichOneof("request")


@given(st.binary(min_size=1, max_size=60), st.data())
def test_pieces_in_order_are_whole_again_and_all_else_is_refused(
    numbers: bytes, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(numbers)))) | {0, len(numbers)})
    parts = [numbers[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    order = data.draw(st.permutations(range(len(parts))))
    head = step()
    head.step.activation.following = data.draw(st.just(len(numbers)) | st.integers(1, 2**63))
    pieces = [pb.TrainRequest(piece=pb.Piece(data=parts[n])).SerializeToString() for n in order]
    told = data.draw(st.sampled_from([[head.SerializeToString(), *pieces], pieces]))
    joiner, whole = Joiner(pb.TrainRequest, 100), None
    try:
        for raw in told:
            whole = joiner.add(raw) or whole
    except (ProtocolError, LimitError):
        return
    if whole is not None and head.step.activation.following == len(numbers):
        assert bytes(whole[1]) == b"".join(parts[n] for n in order)
        assert whole[0] == step()


def test_what_is_promised_takes_no_memory_before_it_comes() -> None:
    before, joiners = resident_bytes("self"), []
    promise = pb.TrainRequest(step=pb.Step(activation=pb.Tensor(following=2**26)))
    for _ in range(100):
        joiners.append(Joiner(pb.TrainRequest, 2**26))
        assert joiners[-1].add(promise.SerializeToString()) is None
    assert resident_bytes("self") - before < 50e6, "6.7 GB were promised"
