"""How any service of the cloud reads a request, and ends a call that has failed."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from sft_cloud.failures import as_sft_error
from sft_cloud.metrics import Metrics
from sft_common.errors import ProtocolError
from sft_common.rpc.status import status_of

M = TypeVar("M", bound=Message)


def read_request(raw: bytes, kind: type[M]) -> M:
    """Return the request of a call.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise ProtocolError(f"a request of {len(raw):,} bytes cannot be read: {error}") from error


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: Exception, metrics: Metrics, whose: str
) -> None:
    """End a call with the status of an error; never returns.

    Args:
        context: of the call.
        error: what happened; called while it is handled.
        metrics: counts it.
        whose: what it happened to, for the log.
    """
    status = status_of(known := as_sft_error(error, whose))
    metrics.failed(status.code.name, type(known).__name__)
    await context.abort(status.code, status.details, status.trailing_metadata)
