"""The standard health service, asked about the service of a cloud. It needs no token."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sft_common.rpc.options import SERVICE

SERVING = "SERVING"


def health_of(channel: grpc.Channel, seconds: float) -> str:
    """Return how a cloud is: "SERVING", or "NOT_SERVING" while it drains.

    Args:
        channel: to it.
        seconds: how long to wait for its answer.

    Raises:
        grpc.RpcError: it is not reached; NOT_FOUND: a gRPC server, but no cloud; UNIMPLEMENTED:
            one without a health service.
    """
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    status = stub.Check(request, timeout=seconds).status
    try:
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
    except ValueError:
        return f"status {status}"
