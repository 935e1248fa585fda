"""Asks a cloud who it is and how it is, without a session (protos: Greet)."""

from __future__ import annotations

import grpc

from sft_common.errors import MismatchError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_common.rpc.greeting import Greeting, greeting_from_proto, noise
from sft_common.rpc.status import error_of


def greet(
    channel: grpc.Channel, seconds: float, *, payload_bytes: int = 0, answer_bytes: int = 0
) -> Greeting:
    """Return what a cloud says of itself.

    Args:
        channel: to it.
        seconds: how long to wait for its answer.
        payload_bytes: bytes to send along, at most `PROBE_BYTES`.
        answer_bytes: bytes that its answer is to carry, at most as many.

    Raises:
        UnreachableError: it did not answer in time, or the connection was lost.
        AuthenticationError: it does not know who asks.
        MismatchError: it does not know the question.
        ProtocolError: its answer is not what was asked for.
    """
    stub = pb_grpc.SplitTrainingServiceStub(channel)
    request = pb.GreetRequest(payload=noise(payload_bytes), answer_bytes=answer_bytes)
    try:
        response = stub.Greet(request, timeout=seconds)
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise MismatchError(
                "it does not answer to Greet: it is older than this edge, or no SFT cloud; "
                "install the same version on both sides"
            ) from error
        raise error_of(error) from error
    if len(response.payload) != answer_bytes:
        raise ProtocolError(
            f"the cloud's answer carries {len(response.payload):,} bytes, {answer_bytes:,} were "
            "wanted"
        )
    return greeting_from_proto(response)
