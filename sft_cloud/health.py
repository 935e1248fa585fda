"""Ask a running cloud whether it serves, by the standard health service."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.access import Access
from sft_common.rpc.channel import open_channel
from sft_common.rpc.options import SERVICE
from sft_common.rpc.trouble import trouble_with


def check(access: Access) -> str:
    """Return "SERVING".

    Raises:
        UnreachableError: it does not answer, or does not serve.
    """
    with open_channel(access) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            status = stub.Check(request, timeout=access.connect_seconds).status
        except grpc.RpcError as error:
            raise UnreachableError(_why(error, access)) from error
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if status != health_pb2.HealthCheckResponse.SERVING:
        raise UnreachableError(f"the cloud at {access.server} is {name}")
    return name


def _why(error: grpc.RpcError, access: Access) -> str:
    assert isinstance(error, grpc.Call)
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return f"no cloud answers at {access.server}, but another gRPC server: {error.details()}"
    trouble = trouble_with(access)
    return f"no cloud answers at {access.server} ({trouble.why}); {trouble.advice}"
