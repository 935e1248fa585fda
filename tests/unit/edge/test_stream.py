"""The edge's side of a stream, against a server of its own that misbehaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from sft_common.errors import (
    CapacityError,
    InternalError,
    LimitError,
    ProtocolError,
    SftError,
    UnreachableError,
)
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.access import Access
from sft_common.rpc.options import SERVICE
from sft_common.rpc.status import status_of
from sft_common.wire.framing import written
from sft_edge.stream import Stream
from sft_edge.traffic import Traffic

RUNNING = written(pb.TrainResponse(running=pb.Running(total_steps=7)))
RUN = pb.TrainRequest(run=pb.Run(epochs=1))
STORE = pb.TrainRequest(store=pb.Store(part=0))

Behaviour = Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]


@contextmanager
def stream_to(behaviour: Behaviour, *, reply_seconds: float = 60) -> Iterator[Stream]:
    """Open a stream to a server that answers as told."""
    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool)
    methods = {"Train": grpc.stream_stream_rpc_method_handler(behaviour)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    access = Access(server=f"127.0.0.1:{port}", reply_seconds=reply_seconds)
    stream = Stream(access, Traffic(), max_message_bytes=2**21)
    try:
        yield stream
    finally:
        stream.close()
        server.stop(None).wait()
        pool.shutdown()


def refused(context: grpc.ServicerContext, error: SftError) -> None:
    status = status_of(error)
    context.set_trailing_metadata(status.trailing_metadata)
    context.abort(status.code, status.details)


def test_replies_come_in_order_with_their_time_and_are_counted() -> None:
    def echo(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in requests:
            yield RUNNING

    with stream_to(echo) as stream:
        begin = time.perf_counter()
        before = stream._traffic.bytes_up, stream._traffic.bytes_down
        for _ in range(3):
            assert begin <= stream.send(RUN) <= time.perf_counter()
        for _ in range(3):
            reply = stream.receive("running")
            assert reply.message.running.total_steps == 7
            assert begin < reply.arrived <= time.perf_counter()
        assert stream._traffic.bytes_up > before[0]
        assert stream._traffic.bytes_down > before[1]


def test_more_replies_than_requests_are_not_taken() -> None:
    """A cloud must not fill the memory of an edge."""
    sent = []

    def chatter(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        next(requests)
        while context.is_active():
            sent.append(1)
            yield bytes(10**6)

    with stream_to(chatter) as stream:
        stream.send(STORE)  # gets no reply
        with pytest.raises(ProtocolError, match="said more than it was asked"):
            stream.receive("running")
        assert stream._replies.qsize() == 1, "the end alone, for whoever asks again"
        with pytest.raises(ProtocolError, match="said more than it was asked"):
            stream.send(STORE)


def test_what_ended_the_stream_meets_who_sends_on() -> None:
    """A frozen edge sends thousands of examples that get no reply."""

    def full(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        next(requests)
        refused(context, CapacityError("the cache is full"))
        yield b""

    with stream_to(full) as stream, pytest.raises(CapacityError, match="the cache is full"):
        for _ in range(10_000):
            stream.send(STORE)
            time.sleep(0.01)


def test_a_cloud_that_takes_nothing_is_given_up() -> None:
    """Its gRPC still answers pings when it does not read any more."""

    def deaf(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        while context.is_active():
            time.sleep(0.01)
        yield from ()

    with stream_to(deaf, reply_seconds=0.5) as stream:
        with pytest.raises(UnreachableError, match=r"has taken nothing for 0\.5 s"):
            for _ in range(100):
                stream.send(STORE, bytes(2**20))


def test_a_stream_that_ends_without_a_reply_says_so() -> None:
    def silent(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        next(requests)
        return iter(())

    with stream_to(silent) as stream:
        stream.send(RUN)
        for _ in range(2):
            with pytest.raises(UnreachableError, match="ended the session without a reply"):
                stream.receive("running")


def test_a_reply_of_another_kind_is_refused() -> None:
    def other(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        next(requests)
        yield RUNNING

    with stream_to(other) as stream:
        stream.send(RUN)
        with pytest.raises(ProtocolError, match="the cloud answered running, closed was expected"):
            stream.receive("closed")


def test_a_defect_of_the_reader_is_not_a_silent_wait() -> None:
    class Broken:
        def __iter__(self) -> Broken:
            return self

        def __next__(self) -> bytes:
            raise ValueError("torn pipe")

    def silent(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()

    with stream_to(silent) as stream:
        with pytest.raises(UnreachableError):
            stream.receive("running")
        stream._replies.get()
        stream._read(Broken())  # type: ignore[arg-type]
        with pytest.raises(InternalError, match="reading from the cloud failed: torn pipe"):
            stream.receive("running")


def test_a_defect_in_taking_a_reply_is_not_a_silent_wait() -> None:
    def echo(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in requests:
            yield RUNNING

    def torn(_: bytes) -> None:
        raise ValueError("torn reply")

    with stream_to(echo) as stream:
        stream._joiner.add = torn  # type: ignore[method-assign, assignment]
        stream.send(RUN)
        with pytest.raises(InternalError, match="reading from the cloud failed: torn reply"):
            stream.receive("running")


def test_a_message_over_the_limit_is_not_sent() -> None:
    def silent(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()

    with stream_to(silent) as stream:
        stream.limit_bytes = 100
        before = stream._traffic.bytes_up
        with pytest.raises(LimitError, match="is over the limit of 100"):
            stream.send(STORE, bytes(200))
        assert stream._traffic.bytes_up == before
