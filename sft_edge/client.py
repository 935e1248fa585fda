"""A CloudSession over gRPC: one bidirectional stream. It knows messages, not training."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
from torch import Tensor

from sft_common import PROTOCOL_VERSION
from sft_common.config import FACTOR_CUTS, ModelShape, SessionSpec
from sft_common.errors import LimitError, MismatchError, ProtocolError, UnreachableError
from sft_common.model.heads import HEAD_TABLE
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_common.plan import Plan
from sft_common.rpc.options import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES
from sft_common.rpc.spec import (
    CloudBasis,
    basis_to_proto,
    check_version,
    plan_to_proto,
    spec_to_proto,
)
from sft_common.rpc.status import error_of
from sft_common.wire.codec import tensor_from_proto, tensor_to_proto
from sft_edge.remote import Closing, Finished, Judged, Stepped, TrainingEvent
from sft_edge.tasks.batches import Labels
from sft_edge.traffic import Traffic


class _Asked(NamedTuple):
    """A request whose reply is under way."""

    number: tuple[int, int]
    """Of step and micro-batch."""

    shape: tuple[int, ...]
    """Of the tensor that must come back."""

    sent: float
    """When, by this process's clock."""


_Reply = tuple[pb.TrainResponse | grpc.RpcError | None, float]
"""What came and when; at the end of the stream its error, or None."""


class GrpcSession:
    """One session with a cloud, open from construction to `close`.

    Args:
        server: "host:port" of the cloud.
        spec: what the cloud is to build and train.
        shape: sizes of the model.
        connect_seconds: how long to try to reach the server.
        basis: mu (N,) and D (R, N), for the cuts that have a basis.
        prepared: whether the model holds the factors of its cut itself.
        trained_session: a finished session whose net2 to go on with; empty: the pre-trained one.

    Raises:
        UnreachableError: nobody answers there.
        MismatchError: who answers is no cloud, or speaks another protocol version.
        SftError: the cloud refuses the session; the message says why.
    """

    def __init__(
        self,
        server: str,
        spec: SessionSpec,
        shape: ModelShape,
        *,
        connect_seconds: float,
        basis: CloudBasis | None = None,
        prepared: bool = False,
        trained_session: str = "",
    ) -> None:
        self.traffic = Traffic()
        self._spec = spec
        self._width = spec.split.wire_width(shape)
        self._limit = MAX_MESSAGE_BYTES
        self._server = server
        self._channel = _connect(server, connect_seconds)
        self._outgoing: queue.SimpleQueue[pb.TrainRequest | None] = queue.SimpleQueue()
        stub = pb_grpc.SplitTrainingServiceStub(self._channel)
        self._incoming: Iterator[pb.TrainResponse] = stub.Train(iter(self._outgoing.get, None))
        self._replies: queue.SimpleQueue[_Reply] = queue.SimpleQueue()
        self._under_way: deque[_Asked] = deque()
        threading.Thread(target=self._read, name="replies", daemon=True).start()
        try:
            self._open(shape, basis, trained_session, ready=prepared or bool(trained_session))
        except BaseException:
            self.abandon()
            raise

    def _open(
        self, shape: ModelShape, basis: CloudBasis | None, trained_session: str, *, ready: bool
    ) -> None:
        request = spec_to_proto(self._spec)
        request.trained_session = trained_session
        if basis is not None:
            request.basis.CopyFrom(basis_to_proto(basis))
        opened = self._ask(pb.TrainRequest(open=request), "opened").opened
        check_version(edge=PROTOCOL_VERSION, cloud=opened.protocol_version)
        self.session_id = opened.session_id
        self.device = opened.device
        self.edge_factor: Tensor | None = None
        self._limit = min(self._limit, opened.max_message_bytes)
        if self._spec.split.cut in FACTOR_CUTS and not ready:
            expected = (self._spec.split.coded_width(shape), self._spec.split.rank)
            self.edge_factor = tensor_from_proto(opened.edge_factor, expected, "edge factor")

    def begin_step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Labels,
        *,
        micro_batch: int = 0,
        share: float = 1.0,
    ) -> None:
        """Ask for loss and gradient of a micro-batch; `remote.CloudSession` has the arguments.

        Raises:
            LimitError: the batch is larger than the cloud takes.
        """
        message = pb.Step(
            step=step,
            activation=tensor_to_proto(activation_TW, self._spec.encoding),
            lengths=lengths,
            micro_batch=micro_batch,
            share=share,
        )
        self._put_labels(message, labels)
        self._begin(pb.TrainRequest(step=message), (step, micro_batch), activation_TW.shape)

    def end_step(self) -> tuple[float, Tensor]:
        """Return the loss of the oldest micro-batch under way, and its gradient, (T, W).

        Raises:
            UnreachableError: the connection was lost.
            SftError: the cloud refused the step.
        """
        asked, response = self._end("step_result")
        result = response.step_result
        if (result.step, result.micro_batch) != asked.number:
            raise ProtocolError(
                f"the cloud answered step {result.step}, micro-batch {result.micro_batch}; "
                f"step {asked.number[0]}, micro-batch {asked.number[1]} was asked"
            )
        encoding = self._spec.gradient_encoding
        return result.loss, tensor_from_proto(result.gradient, asked.shape, "gradient", encoding)

    def apply(self, step: int, learning_rate: float, *, micro_batches: int = 1) -> None:
        """Have the cloud step its optimizer; an error shows with the next reply."""
        message = pb.Apply(step=step, learning_rate=learning_rate, micro_batches=micro_batches)
        self._send(pb.TrainRequest(apply=message))

    def begin_evaluation(
        self, activation_TW: Tensor, lengths: Sequence[int], labels: Sequence[int] = ()
    ) -> None:
        """Ask what the head says of a batch; raises like `begin_step`."""
        activation = tensor_to_proto(activation_TW, self._spec.encoding)
        message = pb.Evaluate(activation=activation, lengths=lengths, labels=labels)
        head = HEAD_TABLE[self._spec.head]
        expected = head.verdict_shape(lengths, self._spec.num_labels, labelled=bool(labels))
        self._begin(pb.TrainRequest(evaluate=message), (0, 0), expected)

    def end_evaluation(self) -> Tensor:
        """Return what the head says of the oldest batch under way; raises like `end_step`."""
        asked, response = self._end("evaluation")
        return tensor_from_proto(response.evaluation.logits, asked.shape, "logits")

    def store(
        self, part: int, activation_TW: Tensor, lengths: Sequence[int], labels: Labels
    ) -> None:
        """Have the cloud keep examples for a training of its own; an error shows with `run`.

        Args:
            part: 0 for training, 1 and up for validation.
            activation_TW: without padding, shape (T, W).
            lengths: real tokens of each example.
            labels: what is to be learned; empty for a part whose labels stay here.

        Raises:
            LimitError: the batch is larger than the cloud takes.
        """
        activation = tensor_to_proto(activation_TW, self._spec.encoding)
        message = pb.Store(part=part, activation=activation, lengths=lengths)
        self._put_labels(message, labels)
        self._send(pb.TrainRequest(store=message))

    def run(self, plan: Plan) -> int:
        """Start the training over what was stored; returns its steps. Raises like `step`."""
        request = pb.TrainRequest(run=plan_to_proto(plan))
        return int(self._ask(request, "running").running.total_steps)

    def close(self) -> Closing:
        """End the session and the connection; raises like `step`."""
        closed = self._ask(pb.TrainRequest(close=pb.Close()), "closed").closed
        self.abandon()
        return Closing(steps=closed.steps, saved=closed.saved)

    def abandon(self) -> None:
        """Drop the connection without ending the session in good order; safe to repeat."""
        self._outgoing.put(None)
        self._channel.close()

    def _send(self, request: pb.TrainRequest) -> None:
        size = request.ByteSize()
        if size > self._limit:
            raise LimitError(
                f"a message of {size:,} bytes is over the limit of {self._limit:,}; "
                "choose a smaller --batch-size, --max-length or --rank"
            )
        self.traffic.sent(size)
        self._outgoing.put(request)

    def _put_labels(self, message: pb.Step | pb.Store, labels: Labels) -> None:
        if self._spec.head == "regression":
            message.numbers.extend(labels)
        else:
            message.labels.extend(map(int, labels))

    def _begin(
        self, request: pb.TrainRequest, number: tuple[int, int], shape: Sequence[int]
    ) -> None:
        """Send a request whose reply is waited for later, by `_end`."""
        self._send(request)
        self._under_way.append(_Asked(number, tuple(shape), time.perf_counter()))

    def _end(self, kind: str) -> tuple[_Asked, pb.TrainResponse]:
        """Return the oldest request under way and its reply; the waiting counts."""
        asked, begin = self._under_way.popleft(), time.perf_counter()
        response, arrived = self._receive(kind)
        answer = response.step_result if kind == "step_result" else response.evaluation
        self.traffic.waited(
            time.perf_counter() - begin,
            exchange=arrived - asked.sent,
            cloud=answer.cloud_seconds,
        )
        return asked, response

    def _ask(self, request: pb.TrainRequest, kind: str) -> pb.TrainResponse:
        self._send(request)
        while self._under_way:  # of a step that was given up
            self._end("step_result")
        return self._receive(kind)[0]

    def _read(self) -> None:
        """Take replies off the connection as they come, on a thread of its own."""
        try:
            for response in self._incoming:
                self._replies.put((response, time.perf_counter()))
            self._replies.put((None, 0.0))
        except grpc.RpcError as error:
            self._replies.put((error, 0.0))

    def _receive(self, kind: str) -> tuple[pb.TrainResponse, float]:
        """Return the next reply and when it came."""
        response, arrived = self._replies.get()
        if not isinstance(response, pb.TrainResponse):
            self._replies.put((response, arrived))  # nothing follows: for whoever asks again
            if response is None:
                raise UnreachableError(
                    f"the cloud at {self._server} ended the session without a reply"
                )
            raise self._explain(response) from response
        self.traffic.received(response.ByteSize())
        if response.WhichOneof("response") != kind:
            raise ProtocolError(
                f"the cloud answered {response.WhichOneof('response')}, {kind} was expected"
            )
        return response, arrived

    def _explain(self, call: grpc.RpcError) -> Exception:
        error = error_of(call)
        assert isinstance(call, grpc.Call)
        if isinstance(error, UnreachableError):
            return UnreachableError(
                f"the connection to the cloud at {self._server} was lost: {error}"
            )
        if call.code() == grpc.StatusCode.UNIMPLEMENTED:
            return MismatchError(f"the server at {self._server} is not an SFT cloud: {error}")
        return error


def follow_training(
    server: str, session_id: str, traffic: Traffic, *, connect_seconds: float
) -> Iterator[TrainingEvent]:
    """Yield the events of a training that the cloud runs alone, from its first one on.

    Raises:
        UnreachableError: nobody answers, or the connection was lost; the training goes on.
        SftError: what the training ended with.
    """
    channel = _connect(server, connect_seconds)
    stub = pb_grpc.SplitTrainingServiceStub(channel)
    try:
        for response in stub.Follow(pb.FollowRequest(session_id=session_id)):
            traffic.received(response.ByteSize())
            yield _event(response)
    except grpc.RpcError as error:
        raise error_of(error) from error
    finally:
        channel.close()


def _event(response: pb.FollowResponse) -> TrainingEvent:
    match response.WhichOneof("event"):
        case "stepped":
            stepped = response.stepped
            return Stepped(stepped.step, stepped.epoch, stepped.loss, stepped.learning_rate)
        case "judged":
            judged = response.judged
            verdict = tensor_from_proto(judged.logits, tuple(judged.logits.shape), "logits")
            return Judged(judged.step, judged.part, verdict)
        case "finished":
            finished = response.finished
            return Finished(finished.steps, finished.saved, finished.cloud_seconds)
        case other:
            raise ProtocolError(f"the cloud told of {other}, which this edge does not know")


def fetch_trained(server: str, session_id: str, target: Path, *, connect_seconds: float) -> None:
    """Write the trained net2 of a finished session to a file, as safetensors.

    Raises:
        ForbiddenError: the cloud does not hand it out.
        UnreachableError: nobody answers, or the connection was lost.
        ProtocolError: less came than was announced.
        OSError: the disk does not take it.
    """
    channel = _connect(server, connect_seconds)
    received = total = 0
    try:
        with open(target, "wb") as file:
            stub = pb_grpc.SplitTrainingServiceStub(channel)
            for piece in stub.Export(pb.ExportRequest(session_id=session_id)):
                total = total or piece.total_bytes
                received += file.write(piece.data)
                if received > total:
                    raise ProtocolError(f"the cloud sent more than the {total:,} bytes announced")
    except grpc.RpcError as error:
        raise error_of(error) from error
    finally:
        channel.close()
    if received != total or not total:
        raise ProtocolError(f"the cloud sent {received:,} of {total:,} bytes of its half")


def _connect(server: str, seconds: float) -> grpc.Channel:
    channel = grpc.insecure_channel(server, options=CHANNEL_OPTIONS)
    try:
        grpc.channel_ready_future(channel).result(timeout=seconds)
    except grpc.FutureTimeoutError:
        channel.close()
        raise UnreachableError(
            f"no cloud answers at {server}: tried for {seconds:g} s ({_why(server)}); "
            "is `sft-cloud serve` running there?"
        ) from None
    except BaseException:
        channel.close()
        raise
    return channel


def _why(server: str) -> str:
    """Say why a server is not reached, in the words of the operating system."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError as error:
        return error.strerror or str(error)
    return "something listens there, but it does not speak gRPC"
