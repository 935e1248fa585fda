"""One Train stream: requests go out, replies come in as they come. It knows no tensors.

A thread takes replies off the connection, so that none waits there while this process computes.
gRPC's own thread hands them to whoever waits, as it reads them: one hop between threads less.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc

from sft_common.errors import (
    InternalError,
    LimitError,
    MismatchError,
    ProtocolError,
    SftError,
    UnreachableError,
    first_line,
)
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.access import Access
from sft_common.rpc.options import MAX_MESSAGE_BYTES, SERVICE
from sft_common.rpc.status import error_of
from sft_common.wire.framing import Numbers
from sft_common.wire.pieces import WAY_OUT, Joiner, pieces
from sft_edge.channel import connect
from sft_edge.journal import UNANSWERED
from sft_edge.outbox import Outbox
from sft_edge.traffic import Traffic


class Reply(NamedTuple):
    """An answer of the cloud."""

    message: pb.TrainResponse
    """May lack the numbers of its tensor."""

    numbers: Numbers
    """Of the tensor in a `StepResult` or an `Evaluation`."""

    arrived: float
    """When it was whole, by `time.perf_counter`."""

    sizes: list[int]
    """Bytes of the messages that it came in."""


class Stream:
    """A bidirectional stream to a cloud.

    Args:
        access: how to reach the cloud and log in to it.
        traffic: counts the messages.
        max_message_bytes: largest message, or tensor in pieces, to take or send.

    Raises:
        UnreachableError: nobody answers there.
    """

    def __init__(
        self,
        access: Access,
        traffic: Traffic,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.limit_bytes = max_message_bytes
        self._server, self._traffic = access.server, traffic
        self._reply_seconds = access.reply_seconds
        self._channel = connect(access, max_message_bytes)
        traffic.connected()
        self._outgoing = Outbox(max_message_bytes, access.reply_seconds)
        self._replies: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
        self._joiner, self._sizes = Joiner(pb.TrainResponse, max_message_bytes), list[int]()
        self._expected = self._answered = 0
        self._end: Exception = UnreachableError("the connection was closed here")
        # Without a serializer: gRPC hands on the bytes that pieces.py writes.
        path = f"/{SERVICE}/Train"
        train: Any = self._channel.stream_stream(path, response_deserializer=self._take)
        incoming = train(self._outgoing)
        threading.Thread(target=self._read, args=[incoming], name="replies", daemon=True).start()

    def send(self, request: pb.TrainRequest, numbers: Numbers = b"") -> float:
        """Queue a request; waits only while the connection has too many bytes to send already.

        Returns when it began to leave, by `time.perf_counter`.

        Args:
            request: may lack the numbers of its tensor.
            numbers: of its tensor; copied.

        Raises:
            LimitError: it is larger than the cloud takes.
            SftError: the stream has ended; what ended it.
        """
        size = request.ByteSize() + len(numbers)
        if size > self.limit_bytes:
            raise LimitError(
                f"a message of {size:,} bytes is over the limit of {self.limit_bytes:,}; {WAY_OUT}"
            )
        self._expected += request.WhichOneof("request") not in UNANSWERED
        begin = time.perf_counter()
        for piece in pieces(request, numbers):
            self._put(piece)
        return begin

    def _put(self, piece: bytes) -> None:
        try:
            waited = self._outgoing.put(piece)
        except TimeoutError:
            self.close()
            raise UnreachableError(
                f"the cloud at {self._server} has taken nothing for {self._reply_seconds:g} s"
            ) from None
        if waited is None:
            raise self._end
        self._traffic.blocked(waited)
        self._traffic.sent(len(piece))

    def receive(self, kind: str) -> Reply:
        """Wait for the next reply.

        Args:
            kind: what it must be.

        Raises:
            UnreachableError: the connection was lost.
            SftError: the cloud refused a request.
        """
        try:
            reply = self._replies.get(timeout=self._reply_seconds)
        except queue.Empty:
            self.close()
            raise UnreachableError(
                f"the cloud at {self._server} has not answered for {self._reply_seconds:g} s"
            ) from None
        if isinstance(reply, Exception):
            self._replies.put(reply)  # nothing follows: for whoever asks again
            raise reply
        for size in reply.sizes:
            self._traffic.received(size)
        came = reply.message.WhichOneof("response")
        if came != kind:
            raise ProtocolError(f"the cloud answered {came}, {kind} was expected")
        return reply

    @property
    def answered(self) -> bool:
        """Whether `receive` need not wait."""
        return not self._replies.empty()

    def close(self) -> None:
        """Drop the connection; safe to repeat."""
        self._outgoing.close()
        self._channel.close()

    def _read(self, taken: Iterator[Exception | bool]) -> None:
        """Have messages taken until the stream ends."""
        try:
            for outcome in taken:
                if isinstance(outcome, Exception):
                    raise outcome
            self._end = UnreachableError(
                f"the cloud at {self._server} ended the session without a reply"
            )
        except grpc.RpcError as error:
            self._end = self._explain(error)
        except SftError as error:
            self._end = error
        except Exception as error:
            self._end = InternalError(f"reading from the cloud failed: {first_line(error)}")
        self._outgoing.close()
        self._replies.put(self._end)

    def _take(self, raw: bytes) -> Exception | bool:
        """Take a message; returns why not, if so: never more replies than were asked for."""
        try:
            if self._answered == self._expected:
                raise ProtocolError(f"the cloud at {self._server} said more than it was asked")
            self._sizes.append(len(raw))
            if (joined := self._joiner.add(raw)) is not None:
                self._replies.put(Reply(*joined, time.perf_counter(), self._sizes))
                self._sizes, self._answered = [], self._answered + 1
        except Exception as error:  # gRPC would only log it
            return error
        return True

    def _explain(self, call: grpc.RpcError) -> Exception:
        error = error_of(call)
        assert isinstance(call, grpc.Call)
        if isinstance(error, UnreachableError):
            return type(error)(f"the connection to the cloud at {self._server} was lost: {error}")
        if call.code() == grpc.StatusCode.UNIMPLEMENTED:
            return MismatchError(f"the server at {self._server} is not an SFT cloud: {error}")
        return error
