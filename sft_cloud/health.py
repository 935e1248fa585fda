"""Ask a running cloud whether it serves, by the standard health service."""

from __future__ import annotations

import grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.access import Access
from sft_common.rpc.channel import open_channel
from sft_common.rpc.health import SERVING, health_of
from sft_common.rpc.trouble import trouble_with


def check(access: Access) -> str:
    """Return "SERVING".

    Raises:
        UnreachableError: it does not answer, or does not serve.
    """
    with open_channel(access) as channel:
        try:
            name = health_of(channel, access.connect_seconds)
        except grpc.RpcError as error:
            raise UnreachableError(_why(error, access)) from error
    if name != SERVING:
        raise UnreachableError(f"the cloud at {access.server} is {name}")
    return name


def _why(error: grpc.RpcError, access: Access) -> str:
    assert isinstance(error, grpc.Call)
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return f"no cloud answers at {access.server}, but another gRPC server: {error.details()}"
    trouble = trouble_with(access)
    return f"no cloud answers at {access.server} ({trouble.why}); {trouble.advice}"
