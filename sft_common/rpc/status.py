"""SftError <-> gRPC status: the only map. The class travels as reason of a google.rpc.ErrorInfo."""

from __future__ import annotations

import textwrap

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sft_common.errors import (
    AuthenticationError,
    CapacityError,
    ConfigError,
    DataError,
    DeviceError,
    ForbiddenError,
    InternalError,
    LimitError,
    MismatchError,
    ModelError,
    ProtocolError,
    RetryLaterError,
    SessionLostError,
    SftError,
    SnapshotError,
    TrainingError,
    UnreachableError,
    printable,
)

DOMAIN = "sft"

MAX_MESSAGE_CHARACTERS = 1000
"""A peer's own words may stand in a message, and gRPC drops a stream whose status is over 8 kB."""

STATUS_OF: dict[type[SftError], grpc.StatusCode] = {
    ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    DataError: grpc.StatusCode.INVALID_ARGUMENT,
    ModelError: grpc.StatusCode.NOT_FOUND,
    DeviceError: grpc.StatusCode.FAILED_PRECONDITION,
    MismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    LimitError: grpc.StatusCode.OUT_OF_RANGE,
    CapacityError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    SnapshotError: grpc.StatusCode.DATA_LOSS,
    SessionLostError: grpc.StatusCode.NOT_FOUND,
    AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    TrainingError: grpc.StatusCode.ABORTED,
    UnreachableError: grpc.StatusCode.UNAVAILABLE,
    RetryLaterError: grpc.StatusCode.UNAVAILABLE,
    InternalError: grpc.StatusCode.INTERNAL,
}
"""Class -> status code."""

_CLASS_OF_REASON = {cls.__name__: cls for cls in STATUS_OF}

_CLASS_OF_CODE: dict[grpc.StatusCode, type[SftError]] = {
    grpc.StatusCode.UNAVAILABLE: UnreachableError,
    grpc.StatusCode.CANCELLED: UnreachableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnreachableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
    grpc.StatusCode.UNIMPLEMENTED: MismatchError,
}
"""For a status that no SFT peer wrote: gRPC says RESOURCE_EXHAUSTED of oversized messages."""


def status_of(error: SftError) -> grpc.Status:
    """Return the status that carries an error to the peer."""
    code = STATUS_OF.get(type(error), grpc.StatusCode.INTERNAL)
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN))
    number: int = code.value[0]
    said = str(error)[: 2 * MAX_MESSAGE_CHARACTERS]  # a peer's words of megabytes take minutes
    message = textwrap.shorten(said, MAX_MESSAGE_CHARACTERS, placeholder=" ...")
    return rpc_status.to_status(status_pb2.Status(code=number, message=message, details=[detail]))


def error_of(call: grpc.RpcError) -> SftError:
    """Return the error that a failed call carries."""
    assert isinstance(call, grpc.Call)
    status, details = rpc_status.from_call(call), printable(call.details() or "")
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return _CLASS_OF_REASON.get(info.reason, InternalError)(details)
    cls = _CLASS_OF_CODE.get(call.code(), InternalError)
    return cls(f"{details or 'no details'} ({call.code().name})")
