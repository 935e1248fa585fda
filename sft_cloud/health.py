"""Ask a running cloud whether it serves, by the standard health service."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.options import CHANNEL_OPTIONS, SERVICE

TIMEOUT_SECONDS = 5.0


def check(server: str) -> str:
    """Return "SERVING".

    Raises:
        UnreachableError: it does not answer, or does not serve.
    """
    with grpc.insecure_channel(server, options=CHANNEL_OPTIONS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            status = stub.Check(request, timeout=TIMEOUT_SECONDS).status
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            raise UnreachableError(f"no cloud answers at {server}: {error.details()}") from error
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if status != health_pb2.HealthCheckResponse.SERVING:
        raise UnreachableError(f"the cloud at {server} is {name}")
    return name
