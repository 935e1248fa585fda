"""What a federation says and hears <-> its messages. What a client says is checked here."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sft_cloud.federation.round import Update
from sft_common.errors import ProtocolError, printable
from sft_common.federation.said import Ended, Finding, Over, Said, Waiting, Work
from sft_common.federation.tensors import in_pieces
from sft_common.pb.sft.v1 import federation_pb2 as fb
from sft_common.rpc.federation import DUTY_TO_PROTO, attempt_to_proto

MAX_EXAMPLES = 2**40
"""Behind one update, or tokens: their sum over all clients stays a number of 64 bits."""


def update_from_proto(header: fb.HandInHeader) -> Update:
    """Return what a header says of an update, which lacks its tensors.

    Raises:
        ProtocolError: a number is out of its range.
    """
    if not 1 <= header.examples <= MAX_EXAMPLES:
        raise ProtocolError(f"an update of {header.examples} examples; 1 to {MAX_EXAMPLES} fit")
    finding = None
    if header.HasField("finding"):
        said = header.finding
        if not 1 <= said.examples <= MAX_EXAMPLES:
            raise ProtocolError(f"a finding over {said.examples} examples; 1 to {MAX_EXAMPLES} fit")
        if not (math.isfinite(said.value) and math.isfinite(said.loss)):
            raise ProtocolError(
                f"a finding with value {said.value} and loss {said.loss}; only numbers fit, and "
                "none needs to be told"
            )
        metric = printable(said.metric[:40])
        finding = Finding(examples=said.examples, metric=metric, value=said.value, loss=said.loss)
    return Update(weight=header.examples, tensors={}, finding=finding)


def messages_of(said: Said, rounds: int) -> Iterator[fb.AttendResponse]:
    """Yield what is to be sent of what a client is told, made only when it can leave."""
    match said:
        case Waiting():
            waiting = fb.Waiting(round=said.round, present=said.present, minimum=said.minimum)
            yield fb.AttendResponse(waiting=waiting)
        case Work():
            work = fb.Assignment(
                attempt=attempt_to_proto(said.attempt),
                duty=DUTY_TO_PROTO[said.duty],
                evaluate=said.evaluate,
                following=len(said.data),
                rounds=rounds,
            )
            yield fb.AttendResponse(assignment=work)
            yield from _in_pieces(said.data)
        case Over():
            over = fb.Over(attempt=attempt_to_proto(said.attempt), reason=said.reason)
            yield fb.AttendResponse(over=over)
        case Ended():
            ended = fb.Ended(following=len(said.data))
            yield fb.AttendResponse(ended=ended)
            yield from _in_pieces(said.data)


def _in_pieces(data: bytes) -> Iterator[fb.AttendResponse]:
    for piece in in_pieces(data):
        yield fb.AttendResponse(piece=piece)
