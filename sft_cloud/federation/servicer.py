"""FederationService <-> federations: messages in and out, errors to statuses. No arithmetic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import grpc

from sft_cloud.access import identity_of
from sft_cloud.calls import abort, read_request
from sft_cloud.failures import as_sft_error
from sft_cloud.federation.federation import Federation
from sft_cloud.federation.messages import messages_of, update_from_proto
from sft_cloud.federation.registry import Federations
from sft_cloud.federation.uploads import Uploads
from sft_cloud.logs import About, set_about
from sft_cloud.metrics import Meter, Metrics
from sft_common import PROTOCOL_VERSION
from sft_common.errors import (
    ForbiddenError,
    LimitError,
    MismatchError,
    ProtocolError,
    TrainingError,
    printable,
)
from sft_common.federation.plan import check_name
from sft_common.federation.tensors import most_bytes
from sft_common.pb.sft.v1 import federation_pb2 as fb
from sft_common.rpc.federation import attempt_from_proto, federation_to_proto, plan_digest
from sft_common.rpc.options import FEDERATION_SERVICE
from sft_common.rpc.spec import check_version

MAX_SAID = 500
"""Characters of a client's own words."""


class FederationServicer:
    """Serves sft.v1.FederationService.

    Args:
        federations: those of this cloud.
        metrics: counts calls that fail, and bytes.
        piece_seconds: within which the next part of an update must come.
    """

    def __init__(
        self, federations: Federations, metrics: Metrics, *, piece_seconds: float = 600.0
    ) -> None:
        self._federations, self._metrics = federations, metrics
        self._piece_seconds, self._uploads = piece_seconds, Uploads(piece_seconds)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what to register with a server; requests come as bytes, as in servicer.py."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Describe": grpc.unary_unary_rpc_method_handler(
                self.Describe, response_serializer=fb.DescribeResponse.SerializeToString
            ),
            "Attend": grpc.unary_stream_rpc_method_handler(self.Attend),
            "HandIn": grpc.stream_unary_rpc_method_handler(
                self.HandIn, response_serializer=fb.HandInResponse.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(FEDERATION_SERVICE, methods)

    async def Describe(
        self, raw: bytes, context: grpc.aio.ServicerContext[bytes, fb.DescribeResponse]
    ) -> fb.DescribeResponse:
        """Tell the plan of a federation."""
        try:
            request = read_request(raw, fb.DescribeRequest)
            check_version(edge=request.protocol_version, cloud=PROTOCOL_VERSION)
            federation = self._find(request.federation)
            return fb.DescribeResponse(plan=federation_to_proto(federation.plan))
        except Exception as error:
            await self._abort(context, error)
            raise

    async def Attend(
        self, raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        """Tell a client what there is to do, as long as it stays."""
        try:
            request = read_request(raw, fb.AttendRequest)
            check_version(edge=request.protocol_version, cloud=PROTOCOL_VERSION)
            federation = self._find(request.federation)
            check_name("client", request.client)
            _check_model(federation, request)
            _check_plan(federation, request)
            meter = self._meter(federation)
            meter.received(len(raw))
            at = attempt_from_proto(request.working_on) if request.HasField("working_on") else None
            seat = federation.attend(request.client, identity_of(context), request.incarnation, at)
            try:
                while (said := await seat.hear()) is not None:
                    for message in messages_of(said, federation.plan.rounds):
                        written = message.SerializeToString()
                        meter.sent(len(written))
                        yield written
            finally:
                federation.leave(seat)
        except Exception as error:
            await self._abort(context, error)

    async def HandIn(
        self,
        requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, fb.HandInResponse],
    ) -> fb.HandInResponse:
        """Take what a client has done, or say why it does not count."""
        try:
            return await self._hand_in(requests, identity_of(context))
        except Exception as error:
            await self._abort(context, error)
            raise

    async def _hand_in(self, requests: AsyncIterator[bytes], owner: str) -> fb.HandInResponse:
        try:
            raw = await asyncio.wait_for(anext(requests), self._piece_seconds)
        except (StopAsyncIteration, TimeoutError):
            raise ProtocolError("nothing was handed in") from None
        header = read_request(raw, fb.HandInRequest).header
        federation = self._find(header.federation)
        meter = self._meter(federation)
        meter.received(len(raw))
        who = header.client, owner, header.incarnation
        at = attempt_from_proto(header.attempt)
        try:
            if header.trouble:
                federation.give_up(*who, at, printable(header.trouble[:MAX_SAID]))
            elif (expected := federation.expects(*who, at)) is not None:
                update, following = update_from_proto(header), header.following
                _check_size(following, most_bytes(expected))
                if not following:
                    await federation.hand_in(*who, at, update, None, header.session_id)
                    return fb.HandInResponse(taken=True)
                with closing(federation.spooled()) as file:
                    await self._uploads.read(
                        (header.federation, header.client),
                        _pieces(requests, meter),
                        following,
                        lambda: federation.expects(*who, at),
                        lambda piece: federation.files(file.write, piece),
                    )
                    await federation.hand_in(*who, at, update, file, header.session_id)
        except (ForbiddenError, TrainingError) as refused:
            return fb.HandInResponse(reason=str(as_sft_error(refused, "an update")))
        return fb.HandInResponse(taken=not header.trouble)

    def _find(self, name: str) -> Federation:
        federation = self._federations.find(name)
        set_about(About(federation=name))
        return federation

    def _meter(self, federation: Federation) -> Meter:
        meter = Meter(self._metrics)
        meter.belongs_to(federation.traffic)
        return meter

    async def _abort(self, context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
        await abort(context, error, self._metrics, "a call about a federation")


async def _pieces(requests: AsyncIterator[bytes], meter: Meter) -> AsyncIterator[bytes]:
    """Yield the pieces that follow a header."""
    async for raw in requests:
        meter.received(len(raw))
        yield read_request(raw, fb.HandInRequest).piece


def _check_size(following: int, most: int) -> None:
    if following > most:
        raise LimitError(f"an update of {following:,} bytes; what was asked for takes {most:,}")


def _check_model(federation: Federation, request: fb.AttendRequest) -> None:
    """Refuse a client with another model.

    Raises:
        MismatchError: shows both digests.
    """
    model = federation.plan.model
    for what, theirs, ours in (
        ("configuration", request.config_digest, model.config_digest),
        ("weights", request.weights_digest, model.weights_digest),
    ):
        if theirs != ours:
            raise MismatchError(
                f"the client's {what} of {model.name} has digest {theirs[:16]!r}, the "
                f"federation's {ours[:16]!r}: they are not the same model; give the client the "
                "federation's with --model"
            )


def _check_plan(federation: Federation, request: fb.AttendRequest) -> None:
    """Refuse a client that joined when the plan was another one.

    Raises:
        MismatchError: says so.
    """
    if request.plan_digest != (digest := plan_digest(federation.plan)):
        raise MismatchError(
            f"the client was told another plan of federation {federation.plan.name} (digest "
            f"{request.plan_digest[:16]!r}, now {digest[:16]!r}): its file was changed meanwhile; "
            "join again"
        )
