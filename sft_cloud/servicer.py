"""The stream <-> the session: reads requests in order, answers them, turns errors into statuses.

No arithmetic happens here, and none on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from sft_cloud.ahead import ahead
from sft_cloud.cache import ActivationCache
from sft_cloud.failures import as_sft_error
from sft_cloud.host import Host
from sft_cloud.session import Session
from sft_cloud.stored import Event, Finished, Judged, Stepped
from sft_common import PROTOCOL_VERSION
from sft_common.errors import ProtocolError, SftError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_common.rpc.options import MAX_MESSAGE_BYTES
from sft_common.rpc.spec import basis_from_proto, plan_from_proto, spec_from_proto
from sft_common.rpc.status import status_of
from sft_common.wire.codec import checked_rows, tensor_from_proto, tensor_to_proto

READ_AHEAD = 2
"""Requests of a stream that wait while one is worked on."""

Requests = AsyncIterator[pb.TrainRequest]
Arrivals = AsyncIterator[tuple[pb.TrainRequest, float]]
"""Requests and when they came."""


class SplitTrainingServicer(pb_grpc.SplitTrainingServiceServicer):
    """Serves sft.v1.SplitTrainingService out of a host."""

    def __init__(self, host: Host, device_name: str) -> None:
        self._host = host
        self._device_name = device_name

    async def Train(
        self,
        request_iterator: Requests,
        context: grpc.aio.ServicerContext[pb.TrainRequest, pb.TrainResponse],
    ) -> AsyncIterator[pb.TrainResponse]:
        """Serve one session; an error ends the stream with its status, never the server."""
        try:
            async for response in self._serve(request_iterator):
                yield response
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

    async def _serve(self, requests: Requests) -> AsyncIterator[pb.TrainResponse]:
        first = await anext(requests, pb.TrainRequest())
        if first.WhichOneof("request") != "open":
            raise ProtocolError(
                f"the first request of a stream must be open, not {first.WhichOneof('request')}"
            )
        spec = spec_from_proto(first.open)
        basis = basis_from_proto(first.open)
        async with self._host.session(spec, basis, first.open.trained_session) as (session, u):
            factor = None if u is None else tensor_to_proto(u)
            yield pb.TrainResponse(
                opened=pb.Opened(
                    protocol_version=PROTOCOL_VERSION,
                    session_id=session.session_id,
                    edge_factor=factor,
                    max_message_bytes=MAX_MESSAGE_BYTES,
                    device=self._device_name,
                )
            )
            async with aclosing(ahead(requests, READ_AHEAD)) as arrivals:
                async for response in self._run(session, arrivals):
                    yield response

    async def _run(self, session: Session, arrivals: Arrivals) -> AsyncIterator[pb.TrainResponse]:
        """Answer requests until close; an apply runs while the next request is on its way."""
        compute = self._host.scheduler.compute
        applying: asyncio.Future[None] | None = None
        async for request, arrived in arrivals:
            if applying is not None:
                await applying
                applying = None
            match request.WhichOneof("request"):
                case "step":
                    result = await compute(_step, session, request.step)
                    result.cloud_seconds = time.perf_counter() - arrived
                    yield pb.TrainResponse(step_result=result)
                case "apply":
                    applying = compute(_apply, session, request.apply)
                case "evaluate":
                    evaluation = await compute(_evaluate, session, request.evaluate)
                    evaluation.cloud_seconds = time.perf_counter() - arrived
                    yield pb.TrainResponse(evaluation=evaluation)
                case "store":
                    steps = await self._store_and_run(session, request.store, arrivals)
                    yield pb.TrainResponse(running=pb.Running(total_steps=steps))
                    return
                case "close":
                    saved = session.applied > 0 and await self._host.keep(session)
                    yield pb.TrainResponse(closed=pb.Closed(steps=session.applied, saved=saved))
                    return
                case other:
                    raise ProtocolError(f"request {other} is not expected inside a session")
        if applying is not None:
            await applying

    async def _store_and_run(self, session: Session, first: pb.Store, arrivals: Arrivals) -> int:
        """Store examples until `run`, and start the training; returns its steps."""
        cache = self._host.trainings.new_cache(session)
        try:
            await self._host.scheduler.files(_store, session, cache, first)
            async for request, _ in arrivals:
                match request.WhichOneof("request"):
                    case "store":
                        await self._host.scheduler.files(_store, session, cache, request.store)
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


def _step(session: Session, message: pb.Step) -> pb.StepResult:
    shape = session.activation_shape(message.lengths)
    spec = session.spec
    activation_TW = tensor_from_proto(message.activation, shape, "activation", spec.encoding)
    labels = message.numbers if spec.head == "regression" else message.labels
    loss, gradient_TW = session.step(
        message.step,
        activation_TW,
        message.lengths,
        list(labels),
        micro_batch=message.micro_batch,
        share=message.share,
    )
    gradient = tensor_to_proto(gradient_TW, spec.gradient_encoding, session.rounding)
    return pb.StepResult(
        step=message.step, loss=loss, gradient=gradient, micro_batch=message.micro_batch
    )


def _apply(session: Session, message: pb.Apply) -> None:
    session.apply(message.step, message.learning_rate, micro_batches=message.micro_batches)


def _store(session: Session, cache: ActivationCache, message: pb.Store) -> None:
    shape = session.activation_shape(message.lengths)
    rows = checked_rows(message.activation, shape, "activation", session.spec.encoding)
    numbers = session.spec.head == "regression"
    labels = list(message.numbers if numbers else message.labels)
    needed = message.part == 0 or session.spec.head == "causal-lm"
    split = session.split_labels(message.lengths, labels, needed=needed)
    cache.add(message.part, rows, message.lengths, split)


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


def _evaluate(session: Session, message: pb.Evaluate) -> pb.Evaluation:
    shape = session.activation_shape(message.lengths)
    encoding = session.spec.encoding
    activation_TW = tensor_from_proto(message.activation, shape, "activation", encoding)
    session.check_verdict(message.lengths, MAX_MESSAGE_BYTES, labelled=bool(message.labels))
    verdict = session.evaluate(activation_TW, message.lengths, list(message.labels))
    return pb.Evaluation(logits=tensor_to_proto(verdict))


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: SftError) -> None:
    status = status_of(error)
    await context.abort(status.code, status.details, status.trailing_metadata)
