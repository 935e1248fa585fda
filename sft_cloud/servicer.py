"""The stream <-> the session: reads requests in order, answers them, turns errors into statuses.

No arithmetic is written here; the event loop does some if it is short (scheduler.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc

from sft_cloud import answers
from sft_cloud.access import identity_of
from sft_cloud.ahead import Ahead
from sft_cloud.bodies import check_takes
from sft_cloud.calls import abort, read_request
from sft_cloud.federation.parts import numbers_for
from sft_cloud.federation.registry import Federations
from sft_cloud.greeting import answer_bytes_of, greeting_of
from sft_cloud.host import Host, Opening
from sft_cloud.hosted import Visit
from sft_cloud.logs import set_about
from sft_cloud.metrics import Meter
from sft_cloud.scheduler import Turns
from sft_cloud.story import Event, Finished, Judged, Stepped
from sft_common import PROTOCOL_VERSION
from sft_common.errors import ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position
from sft_common.rpc.greeting import greeting_to_proto
from sft_common.rpc.options import MAX_MESSAGE_BYTES, SERVICE
from sft_common.rpc.spec import (
    basis_from_proto,
    check_version,
    plan_from_proto,
    position_to_proto,
    return_from_proto,
    spec_from_proto,
)
from sft_common.wire.codec import tensor_to_proto
from sft_common.wire.framing import Numbers
from sft_common.wire.pieces import Joiner, pieces

T = TypeVar("T")

READ_AHEAD = 1
"""Requests of a stream that wait while one is worked on; the reader holds another."""

ALL_STORED = Position(stored=2**63 - 1)
"""Of a session whose training has begun: no example is missing."""

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
        open_seconds: within which a stream must say which session it is about.
        federations: those whose clients may open sessions.
    """

    def __init__(
        self,
        host: Host,
        device_name: str,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        open_seconds: float = 60.0,
        federations: Federations | None = None,
    ) -> None:
        self._federations = federations or Federations()
        self._host, self.max_message_bytes = host, max_message_bytes
        self._open_seconds = open_seconds
        self._device_name, self._metrics = device_name, host.metrics

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what to register with a server.

        `Train` has no serializers: gRPC hands on the bytes that pieces.py writes and reads. Nor
        have the others one for requests: gRPC calls what it cannot read a defect of the server.
        """
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Train": grpc.stream_stream_rpc_method_handler(self.Train),
            "Export": grpc.unary_stream_rpc_method_handler(
                self.Export,
                response_serializer=pb.ExportResponse.SerializeToString,
            ),
            "Follow": grpc.unary_stream_rpc_method_handler(
                self.Follow,
                response_serializer=pb.FollowResponse.SerializeToString,
            ),
            "Greet": grpc.unary_unary_rpc_method_handler(
                self.Greet,
                response_serializer=pb.GreetResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def Train(
        self,
        requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> AsyncIterator[bytes]:
        """Serve a stream; an error ends it with its status, never the server."""
        meter = Meter(self._metrics)
        arrivals = Ahead(_joined(requests, self.max_message_bytes, meter), READ_AHEAD)
        try:
            async with aclosing(self._serve(arrivals, identity_of(context), meter)) as answered:
                async for response, numbers in answered:
                    for piece in pieces(response, numbers):
                        meter.sent(len(piece))
                        yield piece
        except Exception as error:
            await self._abort(context, error)
        finally:
            arrivals.close()

    async def Export(
        self,
        raw: bytes,
        context: grpc.aio.ServicerContext[bytes, pb.ExportResponse],
    ) -> AsyncIterator[pb.ExportResponse]:
        """Hand out the trained net2 of a session in pieces."""
        try:
            request = read_request(raw, pb.ExportRequest)
            pieces = self._host.results.pieces(request.session_id, identity_of(context))
            while piece := await self._host.scheduler.files(next, pieces, None):
                yield pb.ExportResponse(data=piece[0], total_bytes=piece[1])
        except Exception as error:
            await self._abort(context, error)

    async def Follow(
        self,
        raw: bytes,
        context: grpc.aio.ServicerContext[bytes, pb.FollowResponse],
    ) -> AsyncIterator[pb.FollowResponse]:
        """Tell how a training over stored examples goes."""
        try:
            owner, request = identity_of(context), read_request(raw, pb.FollowRequest)
            events = self._host.trainings.follow(request.session_id, request.from_event, owner)
            async for event in events:
                yield _event_to_proto(event)
        except Exception as error:
            await self._abort(context, error)

    async def Greet(
        self, raw: bytes, context: grpc.aio.ServicerContext[bytes, pb.GreetResponse]
    ) -> pb.GreetResponse:
        """Tell who this cloud is, with as many bytes as are wanted to measure the link."""
        try:
            wanted = answer_bytes_of(raw)
            greeting = greeting_of(self._host, self._device_name, self.max_message_bytes)
            return greeting_to_proto(greeting, wanted)
        except Exception as error:
            await self._abort(context, error)
            raise

    async def _abort(self, context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
        await abort(context, error, self._metrics, "a session")

    async def _serve(
        self, arrivals: Ahead[Request], owner: str, meter: Meter
    ) -> AsyncGenerator[answers.Answer]:
        """Answer the requests of a stream, the first of which says which session it is about."""
        try:
            (first, _), _ = await asyncio.wait_for(anext(arrivals), self._open_seconds)
        except StopAsyncIteration:
            first = pb.TrainRequest()
        except TimeoutError:
            raise ProtocolError(
                f"the stream asked for nothing within {self._open_seconds:g} s; the first request "
                "must be open or resume"
            ) from None
        match first.WhichOneof("request"):
            case "open":
                visit, hello = await self._open(first.open, arrivals, owner)
            case "resume":
                check_version(edge=first.resume.open.protocol_version, cloud=PROTOCOL_VERSION)
                if (over := await self._over(first.resume, owner)) is not None:
                    async for answer in _told_again(arrivals, *over):
                        yield answer
                    return
                visit, hello = await self._resume(first.resume, arrivals, owner)
            case other:
                raise ProtocolError(
                    f"the first request of a stream must be open or resume, not {other}"
                )
        meter.belongs_to(
            visit.hosted.figures.traffic, *self._federations.traffic_of(visit.session.spec)
        )
        set_about(visit.hosted.about)
        try:
            yield hello, b""
            async for response in self._run(visit, arrivals):
                yield response
        except Exception as error:
            self._host.failed(visit, error)
            raise
        finally:
            visit.leave()

    async def _open(
        self, message: pb.Open, arrivals: Ahead[Request], owner: str
    ) -> tuple[Visit, pb.TrainResponse]:
        spec = spec_from_proto(message)
        numbers = numbers_for(self._federations, message, spec, owner)
        opening = Opening(
            spec=spec,
            basis=basis_from_proto(message),
            trained_session=message.trained_session,
            replaces=message.replaces,
            incarnation=message.incarnation,
            known={each.name: each.digest for each in message.known},
            trained=numbers.trained,
            code=numbers.code,
        )
        visit, u_NR = await self._host.open(opening, owner, arrivals.stop)
        opened = pb.Opened(
            protocol_version=PROTOCOL_VERSION,
            session_id=visit.session.session_id,
            edge_factor=None if u_NR is None else tensor_to_proto(u_NR),
            max_message_bytes=self.max_message_bytes,
            device=self._device_name,
            snapshots=self._host.keeps_snapshots,
            wanted=visit.session.arriving.wanted,
        )
        return visit, pb.TrainResponse(opened=opened)

    async def _resume(
        self, message: pb.Resume, arrivals: Ahead[Request], owner: str
    ) -> tuple[Visit, pb.TrainResponse]:
        asked = return_from_proto(message)
        if asked.state:
            visit = await self._host.go_to(asked, owner, arrivals.stop)
            return visit, self._resumed(visit.hosted.position, rewound=True)
        visit, rewound = await self._host.resume(asked, owner, arrivals.stop)
        return visit, self._resumed(visit.hosted.position, rewound=rewound)

    def _resumed(self, position: Position, *, rewound: bool = False) -> pb.TrainResponse:
        resumed = pb.Resumed(
            position=position_to_proto(position),
            rewound=rewound,
            max_message_bytes=self.max_message_bytes,
            device=self._device_name,
            snapshots=self._host.keeps_snapshots,
        )
        return pb.TrainResponse(resumed=resumed)

    async def _over(
        self, message: pb.Resume, owner: str
    ) -> tuple[pb.TrainResponse, str, pb.TrainResponse] | None:
        """Return what is to be said again of a session that needs its edge no more."""
        if message.state:
            return None
        session_id = message.session_id
        if (steps := await self._host.trainings.total_steps(session_id, owner)) is not None:
            running = pb.Running(total_steps=steps)
            return self._resumed(ALL_STORED), "run", pb.TrainResponse(running=running)
        if (ending := self._host.results.ending(session_id, owner)) is not None:
            closed = pb.Closed(steps=ending.steps, saved=ending.saved)
            hello = self._resumed(Position(ending.steps))
            return hello, "close", pb.TrainResponse(closed=closed)
        return None

    async def _run(self, visit: Visit, arrivals: Arrivals) -> AsyncIterator[answers.Answer]:
        """Answer requests until close; a long apply runs while the next request is on its way."""
        hosted, session = visit.hosted, visit.session
        turns = Turns(self._host.scheduler)

        def compute(size: int, work: Callable[..., T], *args: Any) -> asyncio.Future[T]:
            return hosted.working(turns.compute(size, work, session, *args))

        applying: asyncio.Future[None] | None = None
        async for (request, numbers), arrived in arrivals:
            if applying is not None:
                await applying
                applying = None
            visit.seen()
            check_takes(session.spec, request.WhichOneof("request"))
            match request.WhichOneof("request"):
                case "step" | "forward" | "backward" as kind:
                    asked = getattr(request, kind)
                    if hosted.stored:
                        raise ProtocolError(f"{kind} {asked.step} came among store requests")
                    turns.came(arrived, begins=not asked.exchange)
                    size, hosted.about.step = answers.size_of(asked, session), asked.step
                    repeated = session.has_answered(asked.step, asked.exchange)
                    work = answers.WORK[kind]
                    response, data = await compute(size, work, asked, numbers, arrived)
                    self._metrics.answered(answers.time_of(response), kind, repeated=repeated)
                    answers.put_news(response, hosted)
                    turns.answered()
                    yield response, data
                case "apply":
                    await hosted.written()
                    if not session.has_applied(request.apply.step):
                        self._metrics.steps += 1
                        hosted.figures.stepped(hosted.seen)
                    applying = compute(1, answers.apply, request.apply)
                case "evaluate":
                    asked = request.evaluate
                    turns.interrupted()
                    size = answers.size_of(asked, session)
                    self._metrics.evaluations += 1
                    yield await compute(size, answers.evaluate, asked, numbers, arrived)
                case "weights":
                    await compute(1, answers.weights, request.weights, numbers)
                case "factor":
                    await compute(1, answers.factor, request.factor)
                case "drop":
                    await compute(1, answers.drop, request.drop)
                case "save":
                    trouble = await self._host.save(visit, request.save.state)
                    yield pb.TrainResponse(saved=pb.Saved(trouble=trouble)), b""
                case "ask_norms":
                    turns.came(arrived)
                    norms = await compute(1, answers.norms)
                    turns.answered()
                    yield norms
                case "keep":
                    await self._host.keep(visit, request.keep.step)
                case "store":
                    await self._store(visit, request, numbers)
                case "run":
                    plan = plan_from_proto(request.run)
                    steps = await self._host.train_stored(visit, plan)
                    yield pb.TrainResponse(running=pb.Running(total_steps=steps)), b""
                    return
                case "park":
                    parked = pb.Parked(kept=await self._host.park(visit))
                    yield pb.TrainResponse(parked=parked), b""
                    return
                case "close":
                    ending = await self._host.close(visit, discard=request.close.discard)
                    closed = pb.Closed(steps=ending.steps, saved=ending.saved)
                    yield pb.TrainResponse(closed=closed), b""
                    return
                case other:
                    raise ProtocolError(f"request {other} is not expected inside a session")
        if applying is not None:
            await applying

    async def _store(self, visit: Visit, request: pb.TrainRequest, numbers: Numbers) -> None:
        """Keep a batch of examples."""
        hosted = visit.hosted
        if hosted.session.position > Position():
            raise ProtocolError("store came in a session that has begun to train")
        if hosted.cache is None:
            hosted.cache = self._host.trainings.new_cache(hosted.session)
        files = self._host.scheduler.files
        work = files(answers.store, hosted.session, hosted.cache, request.store, numbers)
        await hosted.working(work)


async def _told_again(
    arrivals: Arrivals, hello: pb.TrainResponse, kind: str, answer: pb.TrainResponse
) -> AsyncIterator[answers.Answer]:
    """Answer the last request of a session once more, to an edge that did not hear it."""
    yield hello, b""
    async for (request, _), _ in arrivals:
        came = request.WhichOneof("request")
        if came in ("apply", "keep", "factor", "drop"):
            continue
        if came != kind:
            raise ProtocolError(f"request {came} came, but of this session only {kind} is left")
        yield answer, b""
        return


async def _joined(
    requests: AsyncIterator[bytes], limit: int, meter: Meter
) -> AsyncGenerator[Request]:
    """Yield whole requests."""
    joiner = Joiner(pb.TrainRequest, limit)
    async for raw in requests:
        meter.received(len(raw))
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
