"""Large tensors in pieces: whole again at the other end, and nothing else is taken for them."""

from __future__ import annotations

import pytest
import torch

from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.codec import tensor_from_parts, tensor_to_parts
from sft_common.wire.framing import written
from sft_common.wire.pieces import PIECE_BYTES, Joiner, pieces

LIMIT = 2**23


def step(**tensor: int) -> pb.TrainRequest:
    return pb.TrainRequest(step=pb.Step(step=7, lengths=[3], activation=pb.Tensor(**tensor)))


def piece(data: bytes) -> bytes:
    return pb.TrainRequest(piece=pb.Piece(data=data)).SerializeToString()


def joiner() -> Joiner[pb.TrainRequest]:
    return Joiner(pb.TrainRequest, LIMIT)


SIZES = [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 1, LIMIT]


@pytest.mark.parametrize("size", SIZES)
def test_a_tensor_is_whole_again(size: int) -> None:
    data = torch.randint(0, 256, [size], dtype=torch.uint8).numpy().tobytes()
    sent = list(pieces(step(), memoryview(data)))
    assert len(sent) == (1 if size <= PIECE_BYTES else 1 + -(-size // PIECE_BYTES))
    assert max(map(len, sent)) <= PIECE_BYTES + 100
    join = joiner()
    for _ in range(2):  # nothing is left over from the first
        *before, last = (join.add(raw) for raw in sent)
        assert before == [None] * (len(sent) - 1)
        assert last is not None
        message, numbers = last
        assert (message, bytes(numbers)) == (step(), data)


def test_others_find_ordinary_messages() -> None:
    data = bytes(range(256)) * 2**13
    first, *others = (pb.TrainRequest.FromString(raw) for raw in pieces(step(), data))
    assert first == step(following=len(data))
    assert b"".join(other.piece.data for other in others) == data


def test_pieces_may_be_written_by_others() -> None:
    join = joiner()
    assert join.add(written(step(following=5))) is None
    assert join.add(piece(b"ab")) is None
    whole = join.add(piece(b"cde"))
    assert whole is not None
    assert bytes(whole[1]) == b"abcde"


def test_a_tensor_takes_the_memory_of_its_pieces_over() -> None:
    activation_TW = torch.randn(PIECE_BYTES // 4, 2)
    tensor, numbers = tensor_to_parts(activation_TW)
    request = pb.TrainRequest(step=pb.Step(activation=tensor))
    join = joiner()
    *_, whole = (join.add(raw) for raw in pieces(request, numbers))
    assert whole is not None
    message, joined = whole
    found = tensor_from_parts(message.step.activation, joined, (PIECE_BYTES // 4, 2), "it")
    assert torch.equal(found, activation_TW)
    assert isinstance(joined, memoryview)
    joined[0] = 255 - joined[0]
    assert not torch.equal(found, activation_TW)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([piece(b"a")], "a piece came without a tensor"),
        ([written(step(following=3)), written(step())], "1 to 3 bytes was expected, step of 0"),
        ([written(step(following=3)), piece(b"")], "1 to 3 bytes was expected, piece of 0"),
        ([written(step(following=3)), piece(b"ab"), piece(b"cd")], "1 to 1 bytes .* piece of 2"),
        ([written(step(following=3), b"ab")], "a tensor has 2 bytes, and 3 follow"),
    ],
)
def test_what_does_not_belong_is_refused(sent: list[bytes], message: str) -> None:
    join = joiner()
    *before, last = sent
    assert [join.add(raw) for raw in before] == [None] * len(before)
    with pytest.raises(ProtocolError, match=message):
        join.add(last)


def test_a_tensor_over_the_limit_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(LimitError, match=r"of 1,152,921,504,606,846,976 bytes is over the limit"):
        joiner().add(written(step(following=2**60)))
