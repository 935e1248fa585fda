"""What a greeting takes and gives: nothing beyond its bounds."""

from __future__ import annotations

import pytest

from sft_cloud.greeting import answer_bytes_of
from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.greeting import noise
from sft_common.rpc.options import PROBE_BYTES


def request(payload: int = 0, answer: int = 0) -> bytes:
    return pb.GreetRequest(payload=bytes(payload), answer_bytes=answer).SerializeToString()


def test_what_is_wanted_within_bounds() -> None:
    assert answer_bytes_of(b"") == 0
    assert answer_bytes_of(request(PROBE_BYTES, PROBE_BYTES)) == PROBE_BYTES


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (request(PROBE_BYTES + 100), "a greeting of 1,048,680 bytes came"),
        (request(0, PROBE_BYTES + 1), "an answer of 1,048,577 bytes is wanted"),
        (request(0, 2**32 - 1), "an answer of 4,294,967,295 bytes is wanted"),
    ],
)
def test_more_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(LimitError, match=message):
        answer_bytes_of(raw)


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(ProtocolError, match="a request of 3 bytes cannot be read"):
        answer_bytes_of(b"\x01\xe4\xf4")


def test_noise_is_as_long_as_asked_and_no_two_parts_are_alike() -> None:
    whole = noise(PROBE_BYTES)
    assert len(whole) == PROBE_BYTES and noise(10) == whole[:10]
    assert len({whole[at : at + 16] for at in range(0, PROBE_BYTES, 16)}) == PROBE_BYTES // 16
