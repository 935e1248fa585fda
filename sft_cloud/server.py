"""Bind, health, reflection, graceful stop. It knows nothing of models or tensors."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sft_cloud.access import TokenCheck
from sft_cloud.door import OPEN, Door
from sft_cloud.federation.registry import Federations
from sft_cloud.federation.servicer import FederationServicer
from sft_cloud.host import Host
from sft_cloud.servicer import SplitTrainingServicer
from sft_common.errors import ConfigError
from sft_common.rpc.options import FEDERATION_SERVICE, SERVER_OPTIONS, SERVICE, pinged, sized

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """How long a server waits."""

    grace_seconds: float = 30.0
    """For all sessions to be put away, and for their edges to hear of it."""

    ping_seconds: float = 60.0
    """Before it tries a connection without traffic."""

    ping_answer_seconds: float = 20.0
    """For the answer to that."""


async def serve(
    servicer: SplitTrainingServicer,
    *,
    sessions: Host,
    federations: Federations | None = None,
    host: str,
    port: int,
    waits: Waits,
    ready: Callable[[int], None],
    door: Door = OPEN,
    reflects: bool = True,
    beside: Callable[[int], AbstractAsyncContextManager[Any]] = nullcontext,
    once: bool = False,
) -> bool:
    """Serve until SIGTERM or SIGINT, then put all sessions away within the grace time.

    Returns whether that was time enough.

    Args:
        servicer: what answers.
        sessions: what it answers out of.
        federations: those that it leads; None: none.
        host: name or address to listen on.
        port: TCP port; 0 takes a free one.
        waits: how long for what.
        ready: called with the port once it is listening.
        door: who may come in, and whether TLS is spoken.
        reflects: whether callers may ask what the services look like.
        beside: what runs from the moment that the port, its argument, is bound until all sessions
            are put away.
        once: whether to stop when the first session has ended.

    Raises:
        ConfigError: the port is in use, or the host is not of this machine.
    """
    server = grpc.aio.server(
        interceptors=[TokenCheck(door.tokens, sessions.metrics)] if door.tokens else [],
        options=sized(
            pinged(SERVER_OPTIONS, waits.ping_seconds, waits.ping_answer_seconds),
            servicer.max_message_bytes,
        ),
    )
    federations = federations or Federations()
    led = FederationServicer(federations, sessions.metrics)
    server.add_generic_rpc_handlers([servicer.handler(), led.handler()])
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if reflects:
        reflection.enable_server_reflection(
            (SERVICE, FEDERATION_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
    bound = _bind(server, host, port, door)
    stop = _stop_signal()
    await sessions.begin()
    federations.begin()
    async with beside(bound):
        await server.start()
        for name in ("", SERVICE, FEDERATION_SERVICE):
            await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        ready(bound)
        watching = asyncio.create_task(sessions.watch())
        ending = asyncio.create_task(_ended(sessions, stop)) if once else None
        await stop.wait()
        if ending is not None:
            ending.cancel()
        await health_servicer.enter_graceful_shutdown()
        watching.cancel()
        federations.stop()
        end = time.monotonic() + waits.grace_seconds
        try:
            await asyncio.wait_for(sessions.stop(), waits.grace_seconds)
            in_time = True
        except TimeoutError:
            log.error("not all sessions were put away within %g s", waits.grace_seconds)
            in_time = False
    await server.stop(max(0.0, end - time.monotonic()))
    return in_time


def _bind(server: grpc.aio.Server, host: str, port: int, door: Door) -> int:
    _check_free(host, port)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if door.credentials:
            return server.add_secure_port(address, door.credentials)
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: {error}") from error


def _check_free(host: str, port: int) -> None:
    """Find out why a bind would fail, which gRPC does not say."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is in use by another program; choose another --port"
            ) from error
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _stop_signal() -> asyncio.Event:
    """Return what is set once somebody wants the server to stop."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _ended(sessions: Host, stop: asyncio.Event) -> None:
    """Have the server stop when a session has ended."""
    while not sessions.metrics.closed:
        await asyncio.sleep(0.1)
    stop.set()
