"""What a client asks a cloud: a federation's plan, what there is to do, to take an update."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from sft_common import PROTOCOL_VERSION
from sft_common.config import ModelIdentity
from sft_common.errors import ProtocolError, UnreachableError, printable
from sft_common.federation.plan import FederationPlan
from sft_common.federation.said import Attempt, Ended, Over, Said, Waiting, Work
from sft_common.federation.tensors import in_pieces, tensors_to_bytes
from sft_common.pb.sft.v1 import federation_pb2 as fb
from sft_common.pb.sft.v1 import federation_pb2_grpc as fb_grpc
from sft_common.rpc.access import Access
from sft_common.rpc.federation import (
    DUTY_FROM_PROTO,
    attempt_from_proto,
    attempt_to_proto,
    federation_from_proto,
)
from sft_common.rpc.status import error_of
from sft_edge.channel import connect
from sft_edge.federation.done import Done
from sft_edge.traffic import Traffic

MAX_STATE_BYTES = 2**36
"""More than any model that a client could train."""

LOOK_SECONDS = 1.0
"""How often it is looked whether an update still moves."""

MAX_SAID = 500
"""Characters of the cloud's own words."""


class Member(NamedTuple):
    """Who a client is in a federation."""

    federation: str
    client: str
    incarnation: int
    plan_digest: str
    """Of the plan that it was told."""


def describe(access: Access, name: str) -> FederationPlan:
    """Return the plan of a federation.

    Raises:
        UnreachableError: nobody answers there.
        SftError: the cloud leads no such federation, or speaks another version.
    """
    channel = connect(access)
    request = fb.DescribeRequest(protocol_version=PROTOCOL_VERSION, federation=name)
    try:
        stub = fb_grpc.FederationServiceStub(channel)
        answer = stub.Describe(request, timeout=access.reply_seconds)
        return federation_from_proto(answer.plan)
    except grpc.RpcError as error:
        raise error_of(error) from error
    finally:
        channel.close()


def attend(
    access: Access,
    member: Member,
    model: ModelIdentity,
    at: Attempt | None,
    traffic: Traffic,
    keep_call: Callable[[Any], None],
) -> Iterator[Said]:
    """Yield what the cloud says, until the federation ends.

    Args:
        access: to the cloud.
        member: who asks.
        model: what the client holds.
        at: what it is working on; None: nothing.
        traffic: counts the bytes.
        keep_call: is given the call, which anybody may cancel.

    Raises:
        UnreachableError: nobody answers, or the connection was lost.
        SftError: the cloud refuses the client.
    """
    channel = connect(access)
    request = fb.AttendRequest(
        protocol_version=PROTOCOL_VERSION,
        federation=member.federation,
        client=member.client,
        incarnation=member.incarnation,
        config_digest=model.config_digest,
        weights_digest=model.weights_digest,
        working_on=attempt_to_proto(at) if at else None,
        plan_digest=member.plan_digest,
    )
    traffic.connected()
    traffic.sent(request.ByteSize())
    try:
        call = fb_grpc.FederationServiceStub(channel).Attend(request)
        keep_call(call)
        yield from _said(call, traffic)
    except grpc.RpcError as error:
        raise error_of(error) from error
    finally:
        channel.close()


def hand_in(access: Access, member: Member, at: Attempt, done: Done | str, traffic: Traffic) -> str:
    """Hand in what was done, or say why there is nothing; returns why it does not count, or "".

    Args:
        access: to the cloud.
        member: who hands in.
        at: for which try.
        done: what, or the reason.
        traffic: counts the bytes.

    Raises:
        UnreachableError: nobody answers, or the connection was lost.
        SftError: the cloud refuses the client.
    """
    channel = connect(access)
    traffic.connected()
    try:
        stub = fb_grpc.FederationServiceStub(channel)
        sending = _Sending(_requests(member, at, done), traffic)
        answer = _answered(stub.HandIn.future(iter(sending)), sending, access.reply_seconds)
        traffic.received(answer.ByteSize())
        return "" if answer.taken else printable(answer.reason[:MAX_SAID]) or "no reason given"
    except grpc.RpcError as error:
        raise error_of(error) from error
    finally:
        channel.close()


def _requests(member: Member, at: Attempt, done: Done | str) -> Iterator[fb.HandInRequest]:
    header = fb.HandInHeader(
        federation=member.federation,
        client=member.client,
        incarnation=member.incarnation,
        attempt=attempt_to_proto(at),
    )
    if isinstance(done, str):
        header.trouble = done[:MAX_SAID]
        yield fb.HandInRequest(header=header)
        return
    data = tensors_to_bytes(done.tensors)
    header.examples, header.following = done.weight, len(data)
    header.session_id = done.session_id
    if done.tells_finding and (found := done.finding) is not None:
        header.finding.CopyFrom(
            fb.Finding(
                examples=found.examples, metric=found.metric, value=found.value, loss=found.loss
            )
        )
    yield fb.HandInRequest(header=header)
    for piece in in_pieces(data):
        yield fb.HandInRequest(piece=piece)


class _Sending:
    """Requests as they leave: counted, and when the last one did."""

    def __init__(self, requests: Iterator[fb.HandInRequest], traffic: Traffic) -> None:
        self._requests, self._traffic = requests, traffic
        self.moved = time.monotonic()

    def __iter__(self) -> Iterator[fb.HandInRequest]:
        for request in self._requests:
            self.moved = time.monotonic()
            self._traffic.sent(request.ByteSize())
            yield request


def _answered(call: Any, sending: _Sending, seconds: float) -> fb.HandInResponse:
    """Return the answer to a call, however long its requests take.

    Raises:
        UnreachableError: nothing has left, and nothing came, for so many seconds.
    """
    while True:
        try:
            answer: fb.HandInResponse = call.result(timeout=LOOK_SECONDS)
            return answer
        except grpc.FutureTimeoutError:
            if time.monotonic() - sending.moved > seconds:
                call.cancel()
                raise UnreachableError(
                    f"the cloud has taken and said nothing for {seconds:g} s"
                ) from None


def _said(responses: Iterator[fb.AttendResponse], traffic: Traffic) -> Iterator[Said]:
    """Yield whole sayings."""
    for response in responses:
        traffic.received(response.ByteSize())
        match response.WhichOneof("response"):
            case "waiting":
                waiting = response.waiting
                yield Waiting(waiting.round, waiting.present, waiting.minimum)
            case "assignment":
                work = response.assignment
                if work.duty not in DUTY_FROM_PROTO:
                    raise ProtocolError(f"the cloud asks for duty {work.duty}, which is unknown")
                data = _pieces(responses, work.following, traffic)
                yield Work(
                    attempt_from_proto(work.attempt),
                    DUTY_FROM_PROTO[work.duty],
                    work.evaluate,
                    data,
                )
            case "over":
                over = response.over
                yield Over(attempt_from_proto(over.attempt), printable(over.reason[:MAX_SAID]))
            case "ended":
                yield Ended(_pieces(responses, response.ended.following, traffic))
                return
            case other:
                raise ProtocolError(f"the cloud told of {other}, which this client does not know")
    raise ProtocolError("the cloud ended the federation without a word")


def _pieces(responses: Iterator[fb.AttendResponse], following: int, traffic: Traffic) -> bytes:
    if following > MAX_STATE_BYTES:
        raise ProtocolError(f"the cloud announces {following:,} bytes of tensors")
    data = bytearray()
    while len(data) < following:
        response = next(responses, None)
        if response is None or response.WhichOneof("response") != "piece":
            raise ProtocolError(f"{len(data):,} of {following:,} bytes of tensors came")
        traffic.received(response.ByteSize())
        data += response.piece
    if len(data) > following:
        raise ProtocolError(f"{len(data):,} bytes of tensors came, {following:,} were announced")
    return bytes(data)
