"""What runs beside the sessions of a cloud: admin socket, metrics, forgetting. No RPC of edges."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import torch

from sft_cloud.admin import OperationsServicer, serve_admin
from sft_cloud.admin_socket import socket_path
from sft_cloud.federation.registry import Federations
from sft_cloud.forgetting import forget_untouched
from sft_cloud.host import Host
from sft_common.errors import ConfigError
from sft_common.files import written_aside

log = logging.getLogger(__name__)


class Beside:
    """What the options of `serve` want to run beside its sessions.

    Args:
        options: of `add_operations_options`.
        host: whose sessions they are.
        device: where net2 runs.
        servicer: answers the owner.
        federations: those that it leads.

    Raises:
        ConfigError: options that do not go together, or an extra that is not installed.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        host: Host,
        device: torch.device,
        servicer: OperationsServicer,
        federations: Federations,
    ) -> None:
        self._options, self._host, self._device = options, host, device
        self._servicer, self._federations = servicer, federations
        save_dir = None if options.no_save else options.save_dir
        self._socket = socket_path(options.admin_socket, save_dir)
        if options.metrics_port_file:
            if options.metrics_port is None:
                raise ConfigError("--metrics-port-file needs --metrics-port")
            if not options.metrics_port_file.parent.is_dir():
                raise ConfigError(
                    f"--metrics-port-file {options.metrics_port_file}: there is no such folder"
                )

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[None]:
        """Run all of it during the block.

        Args:
            port: that edges reach.

        Raises:
            ConfigError: the admin socket or the port of metrics is not to be had.
        """
        self._servicer.address = f"{self._options.host}:{port}"
        with self._metrics():
            admin = await serve_admin(self._servicer, self._socket) if self._socket else None
            forgetting = asyncio.create_task(
                forget_untouched(self._host, self._options.forget_after)
            )
            try:
                yield
            finally:
                forgetting.cancel()
                if admin is not None:
                    await admin.stop(None)

    @contextmanager
    def _metrics(self) -> Iterator[None]:
        if self._options.metrics_port is None:
            yield
            return
        try:
            from sft_cloud.exposition import serve_metrics
        except ImportError as error:
            raise ConfigError(
                f"--metrics-port needs the package {error.name}; install the extra `cloud`"
            ) from error
        address = self._options.metrics_host
        server = serve_metrics(
            self._host, self._device, address, self._options.metrics_port, self._federations
        )
        log.info("metrics on %s:%d", address, server.server_port)
        if file := self._options.metrics_port_file:
            _write_port(file, server.server_port)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


def _write_port(file: Path, port: int) -> None:
    with written_aside(file) as aside:
        aside.write_text(f"{port}\n")
