"""One Train stream: requests go out, replies come in as they come. It knows no tensors.

A thread takes replies off the connection, so that none waits there while this process computes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc

from sft_common.errors import LimitError, MismatchError, ProtocolError, UnreachableError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.options import MAX_MESSAGE_BYTES, SERVICE
from sft_common.rpc.status import error_of
from sft_common.wire.framing import Numbers, read, written
from sft_edge.channel import connect
from sft_edge.outbox import Outbox
from sft_edge.traffic import Traffic

_Reply = tuple[bytes | grpc.RpcError | None, float]
"""What came and when; at the end of the stream its error, or None."""


class Reply(NamedTuple):
    """An answer of the cloud."""

    message: pb.TrainResponse
    """May lack the numbers of its tensor."""

    numbers: Numbers
    """Of the tensor in a `StepResult` or an `Evaluation`."""

    arrived: float
    """When, by `time.perf_counter`."""


class Stream:
    """A bidirectional stream to a cloud.

    Args:
        server: "host:port" of the cloud.
        traffic: counts the messages.
        connect_seconds: how long to try to reach the server.

    Raises:
        UnreachableError: nobody answers there.
    """

    def __init__(self, server: str, traffic: Traffic, *, connect_seconds: float) -> None:
        self.limit_bytes = MAX_MESSAGE_BYTES
        self._server, self._traffic = server, traffic
        self._channel = connect(server, connect_seconds)
        self._outgoing = Outbox(MAX_MESSAGE_BYTES)
        self._replies: queue.SimpleQueue[_Reply] = queue.SimpleQueue()
        # Without serializers: gRPC hands on the bytes that framing.py writes and reads.
        train: Any = self._channel.stream_stream(f"/{SERVICE}/Train")
        incoming = train(self._outgoing)
        threading.Thread(target=self._read, args=[incoming], name="replies", daemon=True).start()

    def send(self, request: pb.TrainRequest, numbers: Numbers = b"") -> None:
        """Queue a request; waits only while the connection has too many bytes to send already.

        Args:
            request: may lack the numbers of its tensor.
            numbers: of its tensor; copied.

        Raises:
            LimitError: it is larger than the cloud takes.
        """
        raw = written(request, numbers)
        size = len(raw)
        if size > self.limit_bytes:
            raise LimitError(
                f"a message of {size:,} bytes is over the limit of {self.limit_bytes:,}; "
                "choose a smaller --batch-size, --max-length or --rank"
            )
        self._traffic.sent(size)
        self._outgoing.put(raw)

    def receive(self, kind: str) -> Reply:
        """Wait for the next reply.

        Args:
            kind: what it must be.

        Raises:
            UnreachableError: the connection was lost.
            SftError: the cloud refused a request.
        """
        raw, arrived = self._replies.get()
        if not isinstance(raw, bytes):
            self._replies.put((raw, arrived))  # nothing follows: for whoever asks again
            raise self._explain(raw) from raw
        self._traffic.received(len(raw))
        response, numbers = read(raw, pb.TrainResponse)
        if response.WhichOneof("response") != kind:
            raise ProtocolError(
                f"the cloud answered {response.WhichOneof('response')}, {kind} was expected"
            )
        return Reply(response, numbers, arrived)

    def close(self) -> None:
        """Drop the connection; safe to repeat."""
        self._outgoing.close()
        self._channel.close()

    def _read(self, incoming: Iterator[bytes]) -> None:
        try:
            for raw in incoming:
                self._replies.put((raw, time.perf_counter()))
            self._replies.put((None, 0.0))
        except grpc.RpcError as error:
            self._replies.put((error, 0.0))
        finally:
            self._outgoing.close()

    def _explain(self, call: grpc.RpcError | None) -> Exception:
        if call is None:
            return UnreachableError(
                f"the cloud at {self._server} ended the session without a reply"
            )
        error = error_of(call)
        assert isinstance(call, grpc.Call)
        if isinstance(error, UnreachableError):
            return UnreachableError(
                f"the connection to the cloud at {self._server} was lost: {error}"
            )
        if call.code() == grpc.StatusCode.UNIMPLEMENTED:
            return MismatchError(f"the server at {self._server} is not an SFT cloud: {error}")
        return error
