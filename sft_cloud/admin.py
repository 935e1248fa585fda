"""Serves sft.v1.OperationsService on a Unix domain socket, for the cloud's own user alone."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import grpc
import torch

from sft_cloud.admin_socket import (
    MAX_PATH_BYTES,
    check_place,
    fits,
    private_files,
    target_of,
    warn_of_others,
)
from sft_cloud.federation.registry import Federations
from sft_cloud.federation.summary import federation_summaries
from sft_cloud.host import Host
from sft_cloud.overview import device_memory, disk_free_bytes, resident_bytes, summaries
from sft_common import __version__
from sft_common.errors import ConfigError, first_line
from sft_common.pb.sft.v1 import operations_pb2 as pb
from sft_common.pb.sft.v1 import operations_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

MAX_LIST_BYTES = 2**30
"""A session is 100 to 1,000 bytes of a list."""

Context = grpc.aio.ServicerContext[Any, Any]


class OperationsServicer(pb_grpc.OperationsServiceServicer):
    """Answers the owner of a cloud.

    Args:
        host: whose sessions they are.
        device: where net2 runs.
        device_name: the same, for people.
        door: who may come in, for people.
        federations: those that it leads.
    """

    def __init__(
        self,
        host: Host,
        device: torch.device,
        device_name: str,
        door: str,
        federations: Federations,
    ) -> None:
        self._host, self._device, self._federations = host, device, federations
        self._device_name, self._door = device_name, door
        self.address = ""

    async def ServerStatus(
        self, request: pb.ServerStatusRequest, context: Context
    ) -> pb.ServerStatusResponse:
        """Tell how the cloud as a whole is doing."""
        host, metrics = self._host, self._host.metrics
        device_bytes, device_free_bytes = await asyncio.to_thread(device_memory, self._device)
        return pb.ServerStatusResponse(
            version=__version__,
            address=self.address,
            door=self._door,
            device=self._device_name,
            uptime_seconds=max(0.0, time.time() - metrics.started),
            draining=host.stopping,
            sessions_in_memory=host.residents.admission.taken,
            sharing_sessions=host.residents.admission.sharing,
            max_sessions=host.limits.max_sessions,
            queue_depth=host.scheduler.queue_depth,
            scheduling=host.scheduler.scheduling,
            steps=metrics.steps,
            received_bytes=metrics.traffic.received,
            sent_bytes=metrics.traffic.sent,
            errors=metrics.errors.total(),
            resident_bytes=resident_bytes(),
            device_bytes=device_bytes,
            device_free_bytes=device_free_bytes,
            disk_free_bytes=await asyncio.to_thread(disk_free_bytes, host.store),
        )

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        """List every session."""
        # Not on a thread of the scheduler, which would keep short steps off the loop meanwhile.
        found = await asyncio.to_thread(summaries, self._host)
        return pb.ListSessionsResponse(sessions=found)

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, context: Context
    ) -> pb.DeleteSessionResponse:
        """Delete a session."""
        try:
            deleted = await self._host.delete(request.session_id)
        except OSError as error:
            log.error("session %s cannot be deleted: %s", request.session_id, first_line(error))
            await context.abort(grpc.StatusCode.INTERNAL, first_line(error))
        return pb.DeleteSessionResponse(deleted=deleted)

    async def ListFederations(
        self, request: pb.ListFederationsRequest, context: Context
    ) -> pb.ListFederationsResponse:
        """List every federation."""
        return pb.ListFederationsResponse(federations=federation_summaries(self._federations))


async def serve_admin(servicer: OperationsServicer, path: Path) -> grpc.aio.Server | None:
    """Listen on a socket; returns the server, None if the path is too long for one.

    Raises:
        ConfigError: a socket cannot be made there.
    """
    if not fits(path):
        log.warning(
            "no admin socket: the path %s is longer than %d bytes; give --admin-socket PATH",
            path,
            MAX_PATH_BYTES,
        )
        return None
    check_place(path)
    warn_of_others(path.parent)
    server = grpc.aio.server(options=[("grpc.max_send_message_length", MAX_LIST_BYTES)])
    pb_grpc.add_OperationsServiceServicer_to_server(servicer, server)
    try:
        with private_files():
            server.add_insecure_port(target_of(path))
            await server.start()
    except RuntimeError as error:
        raise ConfigError(f"--admin-socket {path}: {first_line(error)}") from error
    path.chmod(0o600)
    return server
