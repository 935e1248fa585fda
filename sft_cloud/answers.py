"""Messages <-> the session: what each request of a stream asks of it, and the answer.

All of it runs on a thread, the device's or one for files, or on the event loop if it is known to be
short. `numbers` are those of the request's tensor, which its message lacks.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from sft_cloud.cache import ActivationCache
from sft_cloud.hosted import Hosted
from sft_cloud.session import Session
from sft_common.autocast import name_of
from sft_common.errors import ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.spec import autocast_from_proto, update_from_proto
from sft_common.wire.codec import (
    Move,
    check_finite,
    check_parts,
    numbers_of,
    tensor_from_parts,
    tensor_to_parts,
)
from sft_common.wire.framing import Numbers

Work = Callable[[Session, Any, Numbers, float], "Answer"]

Answer = tuple[pb.TrainResponse, Numbers]
"""A message, and the numbers of its tensor, which it lacks."""


def _once(work: Callable[[Session, Any, Numbers, _Watch], Answer]) -> Work:
    """Have an exchange of a step answered as before if it has been there; raises as `reply_to`.

    What is returned takes, instead of a watch, when the request came, by `time.perf_counter`.
    """

    @functools.wraps(work)
    def answer(session: Session, message: Any, numbers: Numbers, arrived: float) -> Answer:
        watch = _Watch(arrived)
        if (known := session.reply_to(message.step, message.exchange)) is not None:
            return pb.TrainResponse.FromString(known[0]), known[1]
        return work(session, message, numbers, watch)

    return answer


@_once
def step(session: Session, message: pb.Step, numbers: Numbers, watch: _Watch) -> Answer:
    """Run a micro-batch; raises as `Session.step`.

    Args:
        session: of the stream.
        message: the request.
        numbers: of its activation.
        watch: follows it.
    """
    spec, shape = session.spec, session.bounds.activation_shape(message.lengths)
    activation_TW = _activation(session, message, numbers, shape)
    session.bounds.check_gradient(shape[0], session.reply_bytes)
    labels = message.numbers if spec.head == "regression" else message.labels
    session.bounds.check_label_count(message.lengths, len(labels))
    with watch.computing():
        loss, gradient_TW = session.step(
            message.step,
            activation_TW,
            message.lengths,
            list(labels),
            exchange=message.exchange,
            share=message.share,
            apart=message.apart,
            autocast=autocast_from_proto(message),
        )
    return _gradient_answer(session, message, watch, gradient_TW, loss)


@_once
def forward(session: Session, message: pb.Forward, numbers: Numbers, watch: _Watch) -> Answer:
    """Run a pass forward; arguments as of `step`, raises as `Session.forward`.

    The answer holds the logits, or a frozen body's rows.
    """
    shape = session.bounds.activation_shape(message.lengths)
    activation_TW = _activation(session, message, numbers, shape)
    session.bounds.check_rows(message.lengths, session.reply_bytes)
    with watch.computing():
        rows = session.forward(
            message.step,
            activation_TW,
            message.lengths,
            exchange=message.exchange,
            training=not message.evaluation,
            autocast=autocast_from_proto(message),
        )
    logits, data = tensor_to_parts(
        rows.float(), _written(session, rows), fetch=watch.fetching(session)
    )
    result = pb.ForwardResult(step=message.step, logits=logits, exchange=message.exchange)
    result.cloud_time.CopyFrom(watch.time())
    return _remembered(session, pb.TrainResponse(forward_result=result), data)


@_once
def backward(session: Session, message: pb.Backward, numbers: Numbers, watch: _Watch) -> Answer:
    """Run the pass backward; raises as `Session.backward`.

    Args:
        session: of the stream.
        message: the request.
        numbers: of the gradient with respect to the logits.
        watch: follows it.
    """
    lengths, tail = session.lengths_of(message.forward), session.spec.tail
    what = "gradient of the rows" if tail else "gradient of the logits"
    shape, up = session.bounds.rows_shape(lengths), session.transfers.up
    encoding = tail.gradient_encoding if tail else "float32"
    gradient = tensor_from_parts(message.gradient, numbers, shape, what, encoding, place=up)
    if session.spec.own_optimizer is None:  # a script may scale its loss until it is too much
        check_finite(gradient, what)
    session.bounds.check_gradient(sum(lengths), session.reply_bytes)
    with watch.computing():
        gradient_TW = session.backward(
            message.step, gradient, forward=message.forward, exchange=message.exchange
        )
    return _gradient_answer(session, message, watch, gradient_TW)


def _gradient_answer(
    session: Session,
    message: pb.Step | pb.Backward,
    watch: _Watch,
    gradient_TW: Tensor,
    loss: Tensor | None = None,
) -> Answer:
    """Return the answer with a gradient of the activation, and keep it."""
    gradient, data = tensor_to_parts(
        gradient_TW.float(),
        session.spec.gradient_encoding,
        session.rounding,
        fetch=watch.fetching(session),
    )
    result = pb.StepResult(
        step=message.step,
        loss=0.0 if loss is None else loss.item(),
        gradient=gradient,
        exchange=message.exchange,
    )
    result.cloud_time.CopyFrom(watch.time())
    return _remembered(session, pb.TrainResponse(step_result=result), data)


def _remembered(session: Session, response: pb.TrainResponse, data: memoryview) -> Answer:
    session.remember((response.SerializeToString(), data))
    return response, data


WORK: dict[str, Work] = {"step": step, "forward": forward, "backward": backward}
"""Kind of an exchange of a step -> what answers it."""


def time_of(response: pb.TrainResponse) -> pb.CloudTime:
    """Return where the time went between an exchange of a step and this answer."""
    if response.HasField("forward_result"):
        return response.forward_result.cloud_time
    return response.step_result.cloud_time


def put_news(response: pb.TrainResponse, hosted: Hosted) -> None:
    """Put into an answer with a gradient what the edge should know of the session's snapshots."""
    if not response.HasField("step_result"):
        return
    response.step_result.kept = hosted.kept
    response.step_result.notice = hosted.take_notice()


def size_of(message: pb.Step | pb.Forward | pb.Backward | pb.Evaluate, session: Session) -> int:
    """Return how many tokens a batch has with its padding, at least 1; nothing is checked yet."""
    lengths: Sequence[int]
    if isinstance(message, pb.Backward):
        lengths = session.waiting.get(message.forward, ())
    else:
        lengths = message.lengths
    return max(1, len(lengths) * max(lengths, default=0))


def apply(session: Session, message: pb.Apply) -> None:
    """Step the optimizer; raises as `Session.apply`."""
    updates = [update_from_proto(group) for group in message.groups]
    session.apply(message.step, message.learning_rate, exchanges=message.exchanges, updates=updates)


def weights(session: Session, message: pb.Weights, numbers: Numbers) -> None:
    """Take rows of a parameter; raises as `Arriving.shape_of` and `Arriving.take`."""
    shape = session.arriving.shape_of(message.name)
    count = message.rows.shape[0] if message.rows.shape else 0
    if not 0 < count <= shape[0]:
        raise ProtocolError(f"{count} rows of {message.name} came, which has {shape[0]}")
    rows = tensor_from_parts(message.rows, numbers, (count, *shape[1:]), "rows of weights")
    check_finite(rows, "rows of weights")
    session.arriving.take(message.name, message.first, rows)


def factor(session: Session, message: pb.Factor) -> None:
    """Count what was kept apart; raises as `Session.take_factor`."""
    session.take_factor(message.step, message.exchange, message.factor)


def drop(session: Session, message: pb.Drop) -> None:
    """Forget gradients; raises as `Session.drop`."""
    session.drop(message.step, message.number, message.groups)


def norms(session: Session) -> Answer:
    """Tell how large the gradients are."""
    return pb.TrainResponse(norms=pb.Norms(norms=session.norms())), b""


def evaluate(session: Session, message: pb.Evaluate, numbers: Numbers, arrived: float) -> Answer:
    """Evaluate a batch; `arrived` is by `time.perf_counter`; raises as `Session.evaluate`."""
    watch = _Watch(arrived)
    shape = session.bounds.activation_shape(message.lengths)
    activation_TW = _activation(session, message, numbers, shape)
    if message.every_token:
        session.bounds.check_rows(message.lengths)
    session.bounds.check_verdict(message.lengths, labelled=bool(message.labels))
    if message.labels:
        session.bounds.check_label_count(message.lengths, len(message.labels))
    with watch.computing():
        verdict = session.evaluate(
            activation_TW,
            message.lengths,
            list(message.labels),
            every_token=message.every_token,
            autocast=autocast_from_proto(message),
        ).cpu()
    logits, data = tensor_to_parts(verdict.float(), _written(session, verdict))
    evaluation = pb.Evaluation(logits=logits, cloud_time=watch.time())
    return pb.TrainResponse(evaluation=evaluation), data


def _written(session: Session, rows: Tensor) -> str:
    """Return how the answer of a forward pass is written."""
    return session.spec.tail.encoding if session.spec.tail else name_of(rows.dtype)


def store(session: Session, cache: ActivationCache, message: pb.Store, numbers: Numbers) -> None:
    """Keep examples; raises as `Bounds.split_labels` and `ActivationCache.add`."""
    shape = session.bounds.activation_shape(message.lengths)
    check_parts(message.activation, numbers, shape, "activation", session.spec.encoding)
    regression = session.spec.head == "regression"
    labels = message.numbers if regression else message.labels
    needed = message.part == 0 or session.spec.head == "causal-lm"
    if needed or labels:
        session.bounds.check_label_count(message.lengths, len(labels))
    split = session.bounds.split_labels(message.lengths, list(labels), needed=needed)
    check_finite(numbers_of(bytearray(numbers), shape, session.spec.encoding), "activation")
    cache.add(message.part, numbers, message.lengths, split)


def _activation(
    session: Session,
    message: pb.Step | pb.Forward | pb.Evaluate,
    numbers: Numbers,
    shape: Sequence[int],
) -> Tensor:
    """Return what came, on the session's device; the bytes travel there, not the numbers."""
    activation_TW = tensor_from_parts(
        message.activation,
        numbers,
        shape,
        "activation",
        session.spec.encoding,
        place=session.transfers.up,
    )
    check_finite(activation_TW, "activation")
    return activation_TW


class _Watch:
    """Follows a request from its arrival; made when work on it begins."""

    def __init__(self, arrived: float) -> None:
        self._arrived, self._began = arrived, time.perf_counter()
        self._compute = 0.0

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the block as the device's work."""
        begin = time.perf_counter()
        yield
        self._compute += time.perf_counter() - begin

    def fetching(self, session: Session) -> Move:
        """Return what brings numbers from the device; the wait for them is the device's work."""

        def fetch(rows_TK: Tensor) -> Tensor:
            with self.computing():  # a GPU may have come no further than the beginning
                return session.transfers.down(rows_TK)

        return fetch

    def time(self) -> pb.CloudTime:
        """Return where the time went until now."""
        total = time.perf_counter() - self._arrived
        return pb.CloudTime(total=total, queue=self._began - self._arrived, compute=self._compute)
