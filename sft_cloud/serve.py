"""The `serve` command: put the parts together and run them."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from sft_cloud.admin import OperationsServicer
from sft_cloud.beside import Beside
from sft_cloud.builder import BatchLimits, Builder, ModelBuilder
from sft_cloud.catalog import ModelCatalog
from sft_cloud.compiling import check_compiler
from sft_cloud.device import PRECISIONS, choose_device, describe, memory_bytes
from sft_cloud.door import open_door
from sft_cloud.federation.leading import federations_of
from sft_cloud.host import Host, Limits
from sft_cloud.kept import alone_with
from sft_cloud.logs import set_up_logs
from sft_cloud.scheduler import SHORT_SECONDS, Scheduler
from sft_cloud.server import Waits, serve
from sft_cloud.servicer import SplitTrainingServicer
from sft_cloud.store import Store
from sft_cloud.training_run import TrainingLimits
from sft_common import __version__
from sft_common.errors import ConfigError
from sft_common.files import written_aside
from sft_common.rpc.access import is_loopback

log = logging.getLogger(__name__)

USABLE = 0.8
"""Share of the device's memory that sessions get unless told otherwise."""

UNANNOUNCED = 8
"""A step of a session that does not say how large its batches are gets one part in so many."""


def run_server(
    options: argparse.Namespace, wrap: Callable[[ModelBuilder], Builder] | None = None
) -> None:
    """Serve with the options of `sft-cloud serve` until a signal.

    Args:
        options: of the command line.
        wrap: makes the builder of the one session of a script, at whose end it stops; None: any
            number of sessions with models from disk or a hub.

    Raises:
        ConfigError: the port is in use, a folder given is not there, or it would be open to all.
        DeviceError: the GPU asked for is not on this machine, or nothing can be compiled.
    """
    set_up_logs(options.log_format)
    local, door = is_loopback(options.host), open_door(options)
    device = choose_device(options.gpu, cpu=options.cpu)
    if options.compile:
        check_compiler(device)
    if options.port_file and not options.port_file.parent.is_dir():
        raise ConfigError(f"--port-file {options.port_file}: there is no such folder")
    max_message_bytes = options.max_message * 2**20
    memory = int(options.memory * 1e9) if options.memory else int(USABLE * memory_bytes(device))
    # A batch of another shape may have to be compiled, which nobody can know before.
    short_seconds = 0.0 if options.compile else SHORT_SECONDS
    scheduler = Scheduler(
        options.max_sessions, short_seconds=short_seconds, scheduling=options.scheduling
    )
    catalog = ModelCatalog(_existing(options.model), trust_paths=local)
    builder = ModelBuilder(
        catalog,
        device,
        precision=PRECISIONS[options.precision],
        compiled=options.compile,
        max_message_bytes=max_message_bytes,
        unannounced_bytes=memory // UNANNOUNCED,
        batches=BatchLimits(examples=options.max_batch, tokens=options.max_tokens),
    )
    host = Host(
        builder=wrap(builder) if wrap else builder,
        scheduler=scheduler,
        limits=Limits(
            max_sessions=options.max_sessions,
            memory_bytes=memory,
            park_seconds=options.park_after,
            snapshots=options.snapshots,
            trainings=TrainingLimits(
                examples_bytes=int(options.cache_limit * 2**30),
                snapshots=options.snapshots,
                snapshot_seconds=options.snapshot_seconds,
            ),
        ),
        store=None if options.no_save else Store(options.save_dir),
        allow_export=options.allow_export,
    )
    save_dir = None if options.no_save else options.save_dir
    federations = federations_of(options.federation, catalog, host, save_dir)

    if options.allow_export and options.no_save:
        log.warning("--allow-export hands out nothing with --no-save: no session is kept")

    def ready(port: int) -> None:
        print(
            f"sft-cloud {__version__} listening on {options.host}:{port} ({door.described}), "
            f"{describe(device)}",
            flush=True,
        )
        if options.port_file:
            with written_aside(options.port_file) as aside:
                aside.write_text(f"{port}\n")

    servicer = SplitTrainingServicer(
        host,
        describe(device),
        max_message_bytes=max_message_bytes,
        open_seconds=options.open_timeout,
        federations=federations,
    )
    owners = OperationsServicer(host, device, describe(device), door.described, federations)
    beside = Beside(options, host, device, owners, federations)
    waits = Waits(
        grace_seconds=options.grace,
        ping_seconds=options.keepalive,
        ping_answer_seconds=options.keepalive_timeout,
    )
    try:
        with nullcontext() if options.no_save else alone_with(options.save_dir):
            in_time = asyncio.run(
                serve(
                    servicer,
                    sessions=host,
                    federations=federations,
                    host=options.host,
                    port=options.port,
                    waits=waits,
                    ready=ready,
                    door=door,
                    reflects=not options.no_reflection,
                    beside=beside.running,
                    once=wrap is not None,
                )
            )
    finally:
        scheduler.close()
    print("sft-cloud stopped", flush=True)
    leave(scheduler, 0 if in_time else 1)


def leave(scheduler: Scheduler, code: int) -> None:
    """End the process, if need be in the midst of a step: Python itself would wait for its end.

    Args:
        scheduler: closed.
        code: to exit with.
    """
    if not scheduler.idle:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    if code:
        sys.exit(code)


def _existing(folders: list[Path]) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--model {folder}: there is no such folder")
    return folders
