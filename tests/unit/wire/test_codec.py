"""Tensor <-> pb.Tensor."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_common.config import ENCODINGS
from sft_common.errors import ConfigError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.codec import (
    encoding_from_proto,
    encoding_to_proto,
    tensor_from_proto,
    tensor_to_proto,
)
from sft_common.wire.encodings import ENCODING_TABLE


@given(
    st.lists(st.integers(0, 4), max_size=3).flatmap(
        lambda shape: st.tuples(
            st.just(shape),
            st.lists(st.floats(width=32), min_size=math.prod(shape), max_size=math.prod(shape)),
        )
    )
)
def test_a_round_trip_over_the_wire_is_bit_exact(case: tuple[list[int], list[float]]) -> None:
    shape, numbers = case
    tensor = torch.tensor(numbers, dtype=torch.float32).reshape(shape)
    message = pb.Tensor.FromString(tensor_to_proto(tensor).SerializeToString())
    back = tensor_from_proto(message, shape, "x")
    assert back.shape == tensor.shape
    assert torch.equal(back.view(torch.int32), tensor.view(torch.int32))


def test_a_strided_view_is_sent_in_row_major_order() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(tensor_from_proto(tensor_to_proto(tensor), (3, 2), "x"), tensor)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_column_of_a_matrix_is_sent_like_any_other(encoding: str) -> None:
    """Its rows have one number: torch calls it contiguous, whatever its stride."""
    for rows in (torch.arange(1.0, 17.0)[None].T, torch.arange(20.0).reshape(4, 5).T[:1, 3:]):
        assert rows.stride(-1) != 1
        back = tensor_from_proto(tensor_to_proto(rows, encoding), rows.shape, "x", encoding)
        assert torch.allclose(back, rows, rtol=0.01)


def test_the_result_may_be_written_in_place() -> None:
    back = tensor_from_proto(tensor_to_proto(torch.zeros(2)), (2,), "x")
    back += 1
    assert back.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [3, 2]}, r"gradient has shape \(3, 2\), expected \(2, 3\)"),
        ({"shape": [6]}, r"gradient has shape \(6,\), expected \(2, 3\)"),
        ({"data": b"\0" * 23}, r"has 23 bytes, expected 24"),
        ({"data": b""}, r"has 0 bytes, expected 24"),
        ({"element_type": 0}, r"element type 0; float32 \(1\) was agreed on"),
        ({"element_type": 77}, r"element type 77; float32 \(1\) was agreed on"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_values(
    change: dict[str, object], message: str
) -> None:
    fields = {
        "data": b"\0" * 24,
        "shape": [2, 3],
        "element_type": pb.ELEMENT_TYPE_FLOAT32,
        **change,
    }
    with pytest.raises(ProtocolError, match=message):
        tensor_from_proto(pb.Tensor(**fields), (2, 3), "gradient")


def test_a_huge_shape_costs_no_memory() -> None:
    message = pb.Tensor(shape=[2**31, 2**31], element_type=pb.ELEMENT_TYPE_FLOAT32)
    with pytest.raises(ProtocolError, match="expected"):
        tensor_from_proto(message, (2**31, 2**31), "activation")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoded_tensor_comes_back_as_its_encoding_says(encoding: str) -> None:
    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    message = pb.Tensor.FromString(tensor_to_proto(tensor, encoding).SerializeToString())
    chosen = ENCODING_TABLE[encoding]
    assert len(message.data) == 5 * chosen.row_bytes(7)
    expected = chosen.decode(chosen.encode(tensor), 7)
    assert torch.equal(tensor_from_proto(message, (5, 7), "x", encoding), expected)


def test_another_encoding_than_agreed_is_refused() -> None:
    message = tensor_to_proto(torch.zeros(2, 3), "int8")
    with pytest.raises(ProtocolError, match=r"x has element type 4; int4 \(5\) was agreed on"):
        tensor_from_proto(message, (2, 3), "x", "int4")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoding_has_one_number_in_messages(encoding: str) -> None:
    assert encoding_from_proto(encoding_to_proto(encoding)) == encoding


@pytest.mark.parametrize("number", [0, 6, 77])
def test_an_unknown_number_is_refused_with_the_choice(number: int) -> None:
    with pytest.raises(ConfigError, match=f"unknown encoding {number}; choose one of: float32, "):
        encoding_from_proto(number)
