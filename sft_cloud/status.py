"""`sft-cloud status`: a running cloud and its sessions as a table, once or until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sft_cloud.admin_client import AdminClient, admin_of
from sft_cloud.admin_socket import socket_path
from sft_cloud.logs import visible
from sft_common.errors import UnreachableError
from sft_common.pb.sft.v1 import operations_pb2 as pb

REFRESH_SECONDS = 1.0

PLAIN_WIDTH = 200
"""Columns of a table that is not for a terminal."""

COLUMNS = (
    ("session", "left"),
    ("state", "left"),
    ("owner", "left"),
    ("model", "left"),
    ("cut", "left"),
    ("steps", "right"),
    ("steps/s", "right"),
    ("received", "right"),
    ("sent", "right"),
    ("idle", "right"),
    ("memory", "right"),
    ("disk", "right"),
    ("snapshots", "right"),
)


def run_status(options: argparse.Namespace) -> None:
    """Show a cloud with the options of `sft-cloud status`.

    Raises:
        UnreachableError: no cloud runs there.
    """
    path = socket_path(options.admin_socket, options.save_dir)
    if path is None:
        raise UnreachableError("a cloud without an admin socket tells nobody how it is")
    console = Console()
    with admin_of(path, options.timeout) as admin:
        if options.json:
            print(json.dumps(_facts(admin), indent=2))
        elif options.once or not console.is_terminal:
            _print(admin, console)
        else:
            _follow(admin, console)


def plain_table(found: Sequence[pb.SessionSummary]) -> str:
    """Return a table of sessions as text."""
    console = Console(width=PLAIN_WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(_sessions(found))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def facts_of(message: Message) -> dict[str, Any]:
    """Return the fields of a message as JSON can say them; states by their words."""
    facts = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    if isinstance(message, pb.SessionSummary):
        facts["state"] = _state(message)
    return facts


def _facts(admin: AdminClient) -> dict[str, Any]:
    sessions = [facts_of(summary) for summary in admin.sessions()]
    return {**facts_of(admin.status()), "sessions": sessions}


def _print(admin: AdminClient, console: Console) -> None:
    shown, sessions = admin.status(), admin.sessions()
    if console.is_terminal:
        console.print(_whole(shown, sessions))
    else:
        print(*(line.plain for line in _head(shown)), plain_table(sessions), sep="\n")


def _follow(admin: AdminClient, console: Console) -> None:
    first = _whole(admin.status(), admin.sessions())
    with Live(first, console=console, auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(REFRESH_SECONDS)
            live.update(_whole(admin.status(), admin.sessions()), refresh=True)


def _whole(status: pb.ServerStatusResponse, found: Sequence[pb.SessionSummary]) -> Group:
    return Group(*_head(status), _sessions(found))


def _head(status: pb.ServerStatusResponse) -> list[Text]:
    doing = "stopping" if status.draining else "serving"
    used = status.device_bytes - status.device_free_bytes
    disk = f", disk {amount(status.disk_free_bytes)} free" if status.disk_free_bytes else ""
    return [
        Text(
            f"sft-cloud {status.version} {doing} on {visible(status.address)} "
            f"({visible(status.door)}), up {span(status.uptime_seconds)}"
        ),
        Text(
            f"{visible(status.device)}: memory {amount(used)} of {amount(status.device_bytes)}, "
            f"process {amount(status.resident_bytes)}{disk}"
        ),
        Text(
            f"{status.sessions_in_memory} of {status.max_sessions} sessions in memory, "
            f"{status.queue_depth} waiting for the device ({visible(status.scheduling)}), "
            f"{status.steps:,} steps, "
            f"{amount(status.received_bytes)} received, {amount(status.sent_bytes)} sent, "
            f"{status.errors:,} errors"
        ),
    ]


def _sessions(found: Sequence[pb.SessionSummary]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name, side in COLUMNS:
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for summary in found:
        table.add_row(*(Text(cell) for cell in _row(summary)))
    return table


def _row(summary: pb.SessionSummary) -> list[str]:
    rank = "" if summary.cut in ("", "none") else f" rank {summary.rank}"
    return [
        summary.session_id,
        _state(summary).replace("_", " "),
        visible(summary.owner) or "-",
        visible(summary.model.rpartition("/")[2][:40]) or "-",
        visible(f"{summary.cut}:{summary.split_layer}{rank}") if summary.cut else "-",
        f"{summary.steps:,}",
        f"{summary.steps_per_second:.1f}" if summary.steps_per_second else "-",
        amount(summary.received_bytes),
        amount(summary.sent_bytes),
        span(summary.idle_seconds),
        amount(summary.memory_bytes),
        amount(summary.disk_bytes),
        str(summary.snapshots),
    ]


def _state(summary: pb.SessionSummary) -> str:
    name: str = pb.SessionState.Name(summary.state)
    return name.removeprefix("SESSION_STATE_").lower()


def amount(size: float) -> str:
    """Return a number of bytes as people read it; "-" for none."""
    if not size:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def span(seconds: float) -> str:
    """Return a time as people read it, in the largest unit of which there is one."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
