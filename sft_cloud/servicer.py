"""The stream <-> the session: reads requests in order, answers them, turns errors into statuses.

No arithmetic is written here; the event loop does some if it is short (scheduler.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from sft_cloud import answers
from sft_cloud.ahead import ahead
from sft_cloud.failures import as_sft_error
from sft_cloud.host import Host
from sft_cloud.scheduler import Turns
from sft_cloud.session import Session
from sft_cloud.stored import Event, Finished, Judged, Stepped
from sft_common import PROTOCOL_VERSION
from sft_common.errors import ProtocolError, SftError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.options import MAX_MESSAGE_BYTES, SERVICE
from sft_common.rpc.spec import basis_from_proto, plan_from_proto, spec_from_proto
from sft_common.rpc.status import status_of
from sft_common.wire.codec import tensor_to_proto
from sft_common.wire.framing import Numbers
from sft_common.wire.pieces import Joiner, pieces

READ_AHEAD = 1
"""Requests of a stream that wait while one is worked on; the reader holds another."""

Request = tuple[pb.TrainRequest, Numbers]
"""With the numbers of its tensor, which it may lack."""

Arrivals = AsyncIterator[tuple[Request, float]]
"""Requests and when they were there."""


class SplitTrainingServicer:
    """Serves sft.v1.SplitTrainingService out of a host.

    Args:
        host: opens sessions.
        device_name: where net2 runs, for people.
        max_message_bytes: largest message, or tensor in pieces, to take or send.
    """

    def __init__(
        self, host: Host, device_name: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._host, self.max_message_bytes = host, max_message_bytes
        self._device_name = device_name

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what to register with a server.

        `Train` has no serializers: gRPC hands on the bytes that pieces.py writes and reads.
        """
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Train": grpc.stream_stream_rpc_method_handler(self.Train),
            "Export": grpc.unary_stream_rpc_method_handler(
                self.Export,
                request_deserializer=pb.ExportRequest.FromString,
                response_serializer=pb.ExportResponse.SerializeToString,
            ),
            "Follow": grpc.unary_stream_rpc_method_handler(
                self.Follow,
                request_deserializer=pb.FollowRequest.FromString,
                response_serializer=pb.FollowResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def Train(
        self,
        requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> AsyncIterator[bytes]:
        """Serve one session; an error ends the stream with its status, never the server."""
        try:
            async for response, numbers in self._serve(_joined(requests, self.max_message_bytes)):
                for piece in pieces(response, numbers):
                    yield piece
        except Exception as error:
            await _abort(context, as_sft_error(error))

    async def Export(
        self,
        request: pb.ExportRequest,
        context: grpc.aio.ServicerContext[pb.ExportRequest, pb.ExportResponse],
    ) -> AsyncIterator[pb.ExportResponse]:
        """Hand out the trained net2 of a session in pieces."""
        try:
            pieces = self._host.trained_pieces(request.session_id)
            while piece := await self._host.scheduler.files(next, pieces, None):
                yield pb.ExportResponse(data=piece[0], total_bytes=piece[1])
        except Exception as error:
            await _abort(context, as_sft_error(error))

    async def Follow(
        self,
        request: pb.FollowRequest,
        context: grpc.aio.ServicerContext[pb.FollowRequest, pb.FollowResponse],
    ) -> AsyncIterator[pb.FollowResponse]:
        """Tell how a training over stored examples goes."""
        try:
            async for event in self._host.trainings.follow(request.session_id, request.from_event):
                yield _event_to_proto(event)
        except Exception as error:
            await _abort(context, as_sft_error(error))

    async def _serve(self, requests: AsyncIterator[Request]) -> AsyncIterator[answers.Answer]:
        try:
            first, _ = await anext(requests)
        except StopAsyncIteration:
            first = pb.TrainRequest()
        if first.WhichOneof("request") != "open":
            raise ProtocolError(
                f"the first request of a stream must be open, not {first.WhichOneof('request')}"
            )
        spec = spec_from_proto(first.open)
        basis = basis_from_proto(first.open)
        async with self._host.session(spec, basis, first.open.trained_session) as (session, u):
            factor = None if u is None else tensor_to_proto(u)
            opened = pb.Opened(
                protocol_version=PROTOCOL_VERSION,
                session_id=session.session_id,
                edge_factor=factor,
                max_message_bytes=self.max_message_bytes,
                device=self._device_name,
            )
            yield pb.TrainResponse(opened=opened), b""
            async with aclosing(ahead(requests, READ_AHEAD)) as arrivals:
                async for response in self._run(session, arrivals):
                    yield response

    async def _run(self, session: Session, arrivals: Arrivals) -> AsyncIterator[answers.Answer]:
        """Answer requests until close; a long apply runs while the next request is on its way."""
        compute = Turns(self._host.scheduler).compute
        applying: asyncio.Future[None] | None = None
        async for (request, numbers), arrived in arrivals:
            if applying is not None:
                await applying
                applying = None
            match request.WhichOneof("request"):
                case "step":
                    step = request.step
                    size = answers.padded_tokens(step)
                    yield await compute(size, answers.step, session, step, numbers, arrived)
                case "apply":
                    applying = compute(1, answers.apply, session, request.apply)
                case "evaluate":
                    asked = request.evaluate
                    size = answers.padded_tokens(asked)
                    yield await compute(size, answers.evaluate, session, asked, numbers, arrived)
                case "store":
                    steps = await self._store_and_run(session, request, numbers, arrivals)
                    yield pb.TrainResponse(running=pb.Running(total_steps=steps)), b""
                    return
                case "close":
                    saved = session.applied > 0 and await self._host.keep(session)
                    closed = pb.Closed(steps=session.applied, saved=saved)
                    yield pb.TrainResponse(closed=closed), b""
                    return
                case other:
                    raise ProtocolError(f"request {other} is not expected inside a session")
        if applying is not None:
            await applying

    async def _store_and_run(
        self, session: Session, request: pb.TrainRequest, numbers: Numbers, arrivals: Arrivals
    ) -> int:
        """Store examples until `run`, and start the training; returns its steps."""
        files = self._host.scheduler.files
        cache = self._host.trainings.new_cache(session)
        try:
            await files(answers.store, session, cache, request.store, numbers)
            async for (request, numbers), _ in arrivals:
                match request.WhichOneof("request"):
                    case "store":
                        await files(answers.store, session, cache, request.store, numbers)
                    case "run":
                        plan = plan_from_proto(request.run)
                        release = self._host.release
                        return self._host.trainings.start(session, cache, plan, release)
                    case other:
                        raise ProtocolError(f"request {other} came among store requests")
            raise ProtocolError("the stream ended among store requests, before run")
        except BaseException:
            cache.close()
            raise


async def _joined(requests: AsyncIterator[bytes], limit: int) -> AsyncIterator[Request]:
    """Yield whole requests."""
    joiner = Joiner(pb.TrainRequest, limit)
    async for raw in requests:
        if (whole := joiner.add(raw)) is not None:
            yield whole


def _event_to_proto(event: Event) -> pb.FollowResponse:
    match event:
        case Stepped(step, epoch, loss, rate):
            stepped = pb.Stepped(step=step, epoch=epoch, loss=loss, learning_rate=rate)
            return pb.FollowResponse(stepped=stepped)
        case Judged(step, part, verdict):
            judged = pb.Judged(step=step, part=part, logits=tensor_to_proto(verdict))
            return pb.FollowResponse(judged=judged)
        case Finished(steps, saved, seconds):
            finished = pb.Finished(steps=steps, saved=saved, cloud_seconds=seconds)
            return pb.FollowResponse(finished=finished)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: SftError) -> None:
    status = status_of(error)
    await context.abort(status.code, status.details, status.trailing_metadata)
