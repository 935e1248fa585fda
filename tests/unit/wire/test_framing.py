"""Messages with a large tensor: an ordinary message for others, read in place here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_common.errors import ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.framing import SLOTS, read, written

TENSOR = {"shape": [3, 4], "element_type": pb.ELEMENT_TYPE_INT8}


def step(data: bytes = b"") -> pb.TrainRequest:
    tensor = pb.Tensor(data=data, **TENSOR)
    message = pb.Step(step=7, activation=tensor, lengths=[2, 1], labels=[0, 1], share=0.5)
    return pb.TrainRequest(step=message)


def with_data(kind: str, data: bytes) -> pb.TrainRequest | pb.TrainResponse:
    message: pb.TrainRequest | pb.TrainResponse = (
        pb.TrainRequest()
        if kind in pb.TrainRequest.DESCRIPTOR.fields_by_name
        else pb.TrainResponse()
    )
    tensor = pb.Tensor(data=data, **TENSOR)
    getattr(getattr(message, kind), SLOTS[kind]).CopyFrom(tensor)
    return message


SIZES = st.sampled_from([1, 2, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152])


@given(SIZES, st.sampled_from(sorted(SLOTS)))
def test_others_find_an_ordinary_message(size: int, kind: str) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    raw = written(with_data(kind, b""), memoryview(data))
    message = with_data(kind, data)
    assert type(message).FromString(raw) == message
    found, numbers = read(raw, type(message))
    assert bytes(numbers) == data
    assert found == with_data(kind, b"")


def test_numbers_are_read_where_they_lie() -> None:
    raw = written(step(), b"numbers")
    _, numbers = read(raw, pb.TrainRequest)
    assert isinstance(numbers, memoryview)
    assert numbers.obj is raw


@given(st.binary(min_size=1, max_size=300))
def test_an_ordinary_message_is_read_too(data: bytes) -> None:
    message = step(data)
    found, numbers = read(message.SerializeToString(), pb.TrainRequest)
    assert found == message
    assert bytes(numbers) == data


@pytest.mark.parametrize(
    "message",
    [
        pb.TrainRequest(),
        pb.TrainRequest(close=pb.Close()),
        pb.TrainRequest(apply=pb.Apply(step=3)),
        pb.TrainRequest(open=pb.Open(head="regression")),
        step(),
    ],
)
def test_messages_without_numbers(message: pb.TrainRequest) -> None:
    assert read(written(message), pb.TrainRequest) == (message, b"")


def test_what_only_looks_like_the_form_is_merged_as_the_format_says() -> None:
    """A second occurrence with more in it, of another kind, or after numbers that were there."""
    more = pb.TrainRequest(step=pb.Step(activation=pb.Tensor(data=b"new"), labels=[5]))
    other = pb.TrainRequest(evaluate=pb.Evaluate(activation=pb.Tensor(data=b"new")))
    again = pb.TrainRequest(step=pb.Step(activation=pb.Tensor(data=b"new")))
    for first, second in ((step(), more), (step(), other), (step(b"old"), again)):
        raw = first.SerializeToString() + second.SerializeToString()
        expected = pb.TrainRequest.FromString(raw)
        found, numbers = read(raw, pb.TrainRequest)
        assert found == expected
        assert bytes(numbers) == b"new"


@given(st.binary(max_size=200))
def test_what_is_no_message_is_refused_or_read_like_others_read_it(raw: bytes) -> None:
    try:
        expected = pb.TrainRequest.FromString(raw)
    except Exception:
        with pytest.raises(ProtocolError, match=f"a message of {len(raw)} bytes cannot be read"):
            read(raw, pb.TrainRequest)
        return
    found, numbers = read(raw, pb.TrainRequest)
    kind = found.WhichOneof("request")
    if kind in SLOTS:
        tensor = getattr(getattr(found, kind), SLOTS[kind])
        assert bytes(numbers) == getattr(getattr(expected, kind), SLOTS[kind]).data
        tensor.data = bytes(numbers)
    assert found == expected


@given(st.data())
def test_a_torn_message_is_refused_or_read_like_others_read_it(data: st.DataObject) -> None:
    whole = written(step(), bytes(200))
    raw = whole[: data.draw(st.integers(0, len(whole)))]
    test_what_is_no_message_is_refused_or_read_like_others_read_it.hypothesis.inner_test(raw)
