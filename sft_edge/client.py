"""A CloudSession over gRPC: what a training asks becomes messages, and their replies numbers.

It knows messages, not training; lasting.py sees to it that none is lost or counts twice.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sft_common.autocast import Autocast, dtype_of
from sft_common.config import FACTOR_CUTS, ModelShape, SessionSpec
from sft_common.errors import ProtocolError, RetryLaterError, UnreachableError, printable
from sft_common.model.heads import answer_of
from sft_common.model.identity import digest_of
from sft_common.own_optimizer import GroupUpdate
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.plan import Plan
from sft_common.rpc.access import Access
from sft_common.rpc.options import MAX_MESSAGE_BYTES
from sft_common.rpc.spec import (
    CloudBasis,
    autocast_to_proto,
    basis_to_proto,
    plan_to_proto,
    spec_to_proto,
    update_to_proto,
)
from sft_common.wire.codec import (
    encoding_to_proto,
    tensor_from_parts,
    tensor_from_proto,
    tensor_to_parts,
)
from sft_common.wire.framing import Numbers
from sft_common.wire.pieces import PIECE_BYTES
from sft_edge.lasting import MAX_SAID, LastingStream
from sft_edge.remote import Closing, Rewound
from sft_edge.retrying import ONCE, Retry
from sft_edge.stream import Reply
from sft_edge.tasks.batches import Labels
from sft_edge.traffic import CloudTime, Traffic


class _Asked(NamedTuple):
    """A request whose reply is under way."""

    number: tuple[int, int]
    """Of the step, and the exchange's in it."""

    shape: tuple[int, ...]
    """Of the tensor that must come back."""

    kind: str
    """Of the reply."""

    autocast: Autocast | None = None
    """How the script computes."""

    sent: float = 0.0
    """When it was written."""


class GrpcSession:
    """One session with a cloud, open from construction to `close`.

    Args:
        access: how to reach the cloud and log in to it.
        spec: what the cloud is to build and train.
        shape: sizes of the model.
        max_message_bytes: largest message, or tensor in pieces, to take or send.
        retry: how long to try again when the connection is lost.
        basis: finds mu (N,) and D (R, N), for the cuts that have a basis, once the cloud is there.
        prepared: whether the model holds the factors of its cut itself.
        trained_session: a finished session whose net2 to go on with; empty: the pre-trained one.
        replaces: a session that this one takes the place of; empty: none.
        takes_up: a session to take up again, in place of a new one; `rewound_to` then says where.
        state: the state of that session to go back to; empty: none.
        snapshots: tells the steps behind which the edge has snapshots.
        part: of a federation, whose cloud has all numbers of net2; None: of none.
        net2: finds every parameter of it, once the cloud is there, if the edge has them; what the
            cloud has otherwise is sent.

    Raises:
        UnreachableError: nobody answers there.
        RetryLaterError: the cloud is stopping, or the connection was lost at once.
        SessionLostError: the cloud has nothing from which both could go on.
        MismatchError: who answers is no cloud, or speaks another protocol version.
        SftError: the cloud refuses the session; the message says why.
    """

    def __init__(
        self,
        access: Access,
        spec: SessionSpec,
        shape: ModelShape,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        retry: Retry = ONCE,
        basis: Callable[[], CloudBasis] | None = None,
        prepared: bool = False,
        trained_session: str = "",
        replaces: str = "",
        takes_up: str = "",
        state: str = "",
        snapshots: Callable[[], Sequence[int]] = tuple,
        part: pb.FederationPart | None = None,
        net2: Callable[[], Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.traffic, self.kept, self.rewound_to = Traffic(), 0, 0
        self.edge_factor: Tensor | None = None
        self.beginning = ""
        """A digest of net2 as it was opened, if the edge has it."""

        self._spec, self._under_way = spec, deque[_Asked]()
        self._width = spec.split.wire_width(shape)
        self._head, self._classes = answer_of(spec, shape)
        self._rounding = torch.Generator().manual_seed(spec.seed ^ zlib.crc32(b"rounding"))
        self.stream = LastingStream(
            access,
            spec,
            self.traffic,
            max_message_bytes=max_message_bytes,
            retry=retry,
            snapshots=snapshots,
        )
        try:
            if takes_up:
                self.rewound_to = self.stream.take_up(takes_up, state, replaces)
            else:
                ready = prepared or bool(trained_session) or net2 is not None or part is not None
                self._open(shape, basis, trained_session, replaces, part, ready=ready, net2=net2)
        except BaseException as error:
            self.abandon()
            if type(error) is UnreachableError:  # it was there a moment ago
                raise RetryLaterError(str(error)) from error
            raise
        self.session_id, self.device = self.stream.session_id, self.stream.device

    @property
    def keeps_snapshots(self) -> bool:
        """Whether the cloud writes any."""
        return self.stream.keeps_snapshots

    def _open(
        self,
        shape: ModelShape,
        basis: Callable[[], CloudBasis] | None,
        trained_session: str,
        replaces: str,
        part: pb.FederationPart | None,
        *,
        ready: bool,
        net2: Callable[[], Mapping[str, Tensor]] | None,
    ) -> None:
        request, weights = spec_to_proto(self._spec), net2() if net2 else {}
        known = {name: digest_of(weight) for name, weight in weights.items()}
        request.known.extend(pb.Known(name=n, digest=digest) for n, digest in known.items())
        self.beginning = hashlib.sha256(b"".join(known.values())).hexdigest()[:16]
        request.trained_session, request.replaces = trained_session, replaces
        if part is not None:
            request.federation.CopyFrom(part)
        if basis is not None:
            request.basis.CopyFrom(basis_to_proto(basis()))
        opened = self.stream.open(request)
        if self._spec.split.cut in FACTOR_CUTS and not (ready or self._spec.tail):
            expected = (self._spec.split.coded_width(shape), self._spec.split.rank)
            self.edge_factor = tensor_from_proto(opened.edge_factor, expected, "edge factor")
        for name in opened.wanted:
            self._send_weights(name, weights)

    def _send_weights(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Send a parameter in parts of about a megabyte."""
        if name not in weights:
            raise ProtocolError(f"the cloud asks for weights of {printable(name[:200])!r}")
        weight = weights[name].detach().to("cpu", torch.float32)
        count = max(1, len(weight) * PIECE_BYTES // (4 * weight.numel()))
        for first in range(0, len(weight), count):
            rows, numbers = tensor_to_parts(weight[first : first + count].contiguous())
            message = pb.Weights(name=name, rows=rows, first=first)
            self._send(pb.TrainRequest(weights=message), numbers)

    def begin_step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Labels,
        *,
        exchange: int = 0,
        share: float = 1.0,
        apart: bool = False,
        autocast: Autocast | None = None,
    ) -> None:
        """Ask for loss and gradient of a micro-batch; `remote.CloudSession` has the arguments.

        Args:
            step: see there.
            activation_TW: see there.
            lengths: see there.
            labels: see there.
            exchange: see there.
            share: see there.
            apart: whether what it does to net2 counts only as `factor` will say.
            autocast: how the script computes.

        Raises:
            LimitError: the batch is larger than the cloud takes.
        """
        begin = time.perf_counter()
        activation, numbers = tensor_to_parts(activation_TW, self._spec.encoding)
        message = pb.Step(
            step=step,
            activation=activation,
            lengths=lengths,
            exchange=exchange,
            share=share,
            apart=apart,
            autocast=autocast_to_proto(autocast),
        )
        self._put_labels(message, labels)
        asked = _Asked((step, exchange), tuple(activation_TW.shape), "step_result")
        self._begin(pb.TrainRequest(step=message), numbers, asked, begin)

    def end_step(self) -> tuple[float, Tensor]:
        """Return the loss of the oldest micro-batch under way, and its gradient, (T, W).

        Raises:
            UnreachableError: the connection was lost.
            SftError: the cloud refused the step.
        """
        asked, reply = self._end()
        return reply.message.step_result.loss, self._gradient(asked, reply)

    def begin_forward(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        *,
        exchange: int = 0,
        training: bool = True,
        autocast: Autocast | None = None,
    ) -> None:
        """Ask for the logits of a micro-batch; raises like `begin_step`."""
        begin = time.perf_counter()
        activation, numbers = tensor_to_parts(activation_TW, self._spec.encoding)
        message = pb.Forward(
            step=step,
            activation=activation,
            lengths=lengths,
            exchange=exchange,
            evaluation=not training,
            autocast=autocast_to_proto(autocast),
        )
        shape = self._head.rows_shape(lengths, self._classes)
        asked = _Asked((step, exchange), shape, "forward_result", autocast)
        self._begin(pb.TrainRequest(forward=message), numbers, asked, begin)

    def end_forward(self) -> Tensor:
        """Return the logits of the oldest exchange under way; raises like `end_step`."""
        asked, reply = self._end()
        result = reply.message.forward_result
        _check_number(result, asked)
        return self._logits(result.logits, reply, asked)

    def begin_backward(
        self, step: int, gradient: Tensor, *, forward: int, tokens: int, exchange: int = 1
    ) -> None:
        """Ask for the gradient of a micro-batch; `remote.CloudSession` has the arguments."""
        begin = time.perf_counter()
        tail = self._spec.tail
        encoding, rounding = (tail.gradient_encoding, self._rounding) if tail else ("float32", None)
        tensor, numbers = tensor_to_parts(gradient, encoding, rounding)
        message = pb.Backward(step=step, gradient=tensor, exchange=exchange, forward=forward)
        asked = _Asked((step, exchange), (tokens, self._width), "step_result")
        self._begin(pb.TrainRequest(backward=message), numbers, asked, begin)

    def end_backward(self) -> Tensor:
        """Return the gradient of the oldest exchange under way, (T, W); raises like `end_step`."""
        return self._gradient(*self._end())

    def answered(self) -> bool:
        """Return whether the next reply, or the stream's end, is here already."""
        return self.stream.answered

    def apply(
        self,
        step: int,
        learning_rate: float = 0.0,
        *,
        exchanges: int = 1,
        updates: Sequence[GroupUpdate] = (),
    ) -> None:
        """Have the cloud step its optimizer; an error shows with the next reply.

        Args:
            step: its number.
            learning_rate: of the project's own optimizer.
            exchanges: how many the step had.
            updates: of each group of a script's optimizer.
        """
        groups = [update_to_proto(update) for update in updates]
        message = pb.Apply(
            step=step, learning_rate=learning_rate, exchanges=exchanges, groups=groups
        )
        self._send(pb.TrainRequest(apply=message))

    def factor(self, step: int, exchange: int, factor: float) -> None:
        """Say what an exchange counts that was kept apart; an error shows as with `apply`."""
        self._send(pb.TrainRequest(factor=pb.Factor(step=step, exchange=exchange, factor=factor)))

    def drop(self, step: int, number: int, groups: Sequence[int]) -> None:
        """Have gradients of groups of a script's optimizer forgotten; an error shows as above.

        Args:
            step: under way.
            number: how many times that was done before in it.
            groups: their numbers.
        """
        message = pb.Drop(step=step, number=number, groups=groups)
        self._send(pb.TrainRequest(drop=message))

    def save(self, state: str) -> str:
        """Have the cloud write a state of that name; returns why it did not, empty if it did."""
        trouble = self._ask(pb.TrainRequest(save=pb.Save(state=state)), "saved").saved.trouble
        return printable(trouble[:MAX_SAID])

    def norms(self) -> list[float]:
        """Return the Euclidean norm of net2's gradients, of each group of a script's optimizer."""
        return list(self._ask(pb.TrainRequest(ask_norms=pb.AskNorms()), "norms").norms.norms)

    def keep(self, step: int) -> None:
        """Have the cloud write a snapshot behind the last step; an error shows as with `apply`."""
        self._send(pb.TrainRequest(keep=pb.Keep(step=step)))

    def begin_evaluation(
        self,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Sequence[int] = (),
        *,
        every_token: bool = False,
        autocast: Autocast | None = None,
    ) -> None:
        """Ask what the head says of a batch; raises like `begin_step`."""
        begin = time.perf_counter()
        activation, numbers = tensor_to_parts(activation_TW, self._spec.encoding)
        message = pb.Evaluate(
            activation=activation,
            lengths=lengths,
            labels=labels,
            every_token=every_token,
            autocast=autocast_to_proto(autocast),
        )
        if every_token:
            expected: tuple[int, ...] = self._head.rows_shape(lengths, self._classes)
        else:
            labelled = bool(labels)
            expected = self._head.verdict_shape(lengths, self._classes, labelled=labelled)
        asked = _Asked((0, 0), expected, "evaluation", autocast)
        self._begin(pb.TrainRequest(evaluate=message), numbers, asked, begin)

    def end_evaluation(self) -> Tensor:
        """Return what the head says of the oldest batch under way; raises like `end_step`."""
        asked, reply = self._end()
        return self._logits(reply.message.evaluation.logits, reply, asked)

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
        activation, numbers = tensor_to_parts(activation_TW, self._spec.encoding)
        message = pb.Store(part=part, activation=activation, lengths=lengths)
        self._put_labels(message, labels)
        self.stream.store(pb.TrainRequest(store=message), numbers)

    def run(self, plan: Plan) -> int:
        """Start the training over what was stored; returns its steps. Raises like `step`."""
        begin, lost = time.perf_counter(), self.stream.lost_seconds
        running = self._ask(pb.TrainRequest(run=plan_to_proto(plan)), "running").running
        waited = time.perf_counter() - begin  # behind all that was stored
        self.traffic.blocked(waited - (self.stream.lost_seconds - lost))
        return int(running.total_steps)

    def close(self, *, discard: bool = False) -> Closing:
        """End the session and the connection; raises like `step`.

        Args:
            discard: whether the cloud is to keep nothing of it.
        """
        closed = self._ask(pb.TrainRequest(close=pb.Close(discard=discard)), "closed").closed
        self.abandon()
        return Closing(steps=closed.steps, saved=closed.saved)

    def park(self) -> bool:
        """Have the cloud put the session away, and end the connection; returns whether it did."""
        parked = self._ask(pb.TrainRequest(park=pb.Park()), "parked").parked
        self.abandon()
        return bool(parked.kept)

    def abandon(self) -> None:
        """Drop the connection without ending the session in good order; safe to repeat."""
        self.stream.close()

    def _gradient(self, asked: _Asked, reply: Reply) -> Tensor:
        """Return the gradient of the activation in an answer, and heed what else it says."""
        result = reply.message.step_result
        self.kept = result.kept
        if result.notice:
            self.stream.say(printable(result.notice[:MAX_SAID]))
        _check_number(result, asked)
        encoding = self._spec.gradient_encoding
        return self._read(result.gradient, reply, asked, "gradient", encoding)

    def _logits(self, logits: pb.Tensor, reply: Reply, asked: _Asked) -> Tensor:
        """Return logits, float32 unless the cloud has computed others under autocast; or rows."""
        if (tail := self._spec.tail) is not None:
            return self._read(logits, reply, asked, "rows", tail.encoding)
        dtype = "float32"
        if asked.autocast and logits.element_type == encoding_to_proto(asked.autocast.computes):
            dtype = asked.autocast.computes
        return self._read(logits, reply, asked, "logits", dtype).to(dtype_of(dtype))

    def _put_labels(self, message: pb.Step | pb.Store, labels: Labels) -> None:
        if self._spec.head == "regression":
            message.numbers.extend(labels)
        else:
            message.labels.extend(map(int, labels))

    def _begin(
        self, request: pb.TrainRequest, numbers: Numbers, asked: _Asked, begin: float
    ) -> None:
        """Send a request, written since `begin`, whose reply is waited for later, by `_end`."""
        sent = self._send(request, numbers)
        self.traffic.encode_seconds += sent - begin
        self._under_way.append(asked._replace(sent=sent))

    def _read(
        self, tensor: pb.Tensor, reply: Reply, asked: _Asked, what: str, encoding: str
    ) -> Tensor:
        begin = time.perf_counter()
        numbers = tensor_from_parts(tensor, reply.numbers, asked.shape, what, encoding)
        self.traffic.decode_seconds += time.perf_counter() - begin
        return numbers

    def _end(self) -> tuple[_Asked, Reply]:
        """Return the oldest request under way and its reply; the waiting counts."""
        asked, lost = self._under_way.popleft(), self.stream.lost_seconds
        begin = time.perf_counter()
        reply = self._receive(asked.kind)
        there = getattr(reply.message, asked.kind).cloud_time
        self.traffic.waited(
            time.perf_counter() - begin - (self.stream.lost_seconds - lost),
            exchange=reply.arrived - max(asked.sent, self.stream.since),
            cloud=CloudTime(there.total, there.queue, there.compute),
        )
        return asked, reply

    def _ask(self, request: pb.TrainRequest, kind: str) -> pb.TrainResponse:
        self._send(request)
        while self._under_way:  # of a step that was given up
            self._end()
        return self._receive(kind).message

    def _send(self, request: pb.TrainRequest, numbers: Numbers = b"") -> float:
        try:
            return self.stream.send(request, numbers)
        except Rewound:
            self._under_way.clear()
            raise

    def _receive(self, kind: str) -> Reply:
        try:
            return self.stream.receive(kind)
        except Rewound:
            self._under_way.clear()
            raise


def _check_number(result: pb.StepResult | pb.ForwardResult, asked: _Asked) -> None:
    """Refuse an answer to something else."""
    if (result.step, result.exchange) != asked.number:
        raise ProtocolError(
            f"the cloud answered step {result.step}, exchange {result.exchange}; "
            f"step {asked.number[0]}, exchange {asked.number[1]} was asked"
        )
