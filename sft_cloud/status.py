"""`sft-cloud status`: a running cloud, its federations and sessions, once or until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sft_cloud.admin_client import AdminClient, admin_of
from sft_cloud.admin_socket import socket_path
from sft_cloud.amounts import amount, span
from sft_cloud.federation.table import failures, federation_state, federations_table
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
"""Of sessions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a cloud says of itself at one moment."""

    status: pb.ServerStatusResponse
    federations: Sequence[pb.FederationSummary]
    sessions: Sequence[pb.SessionSummary]

    @classmethod
    def of(cls, admin: AdminClient) -> Seen:
        """Ask a cloud; raises as its questions."""
        return cls(
            status=admin.status(), federations=admin.federations(), sessions=admin.sessions()
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
            print(json.dumps(_facts(Seen.of(admin)), indent=2))
        elif options.once or not console.is_terminal:
            _print(Seen.of(admin), console)
        else:
            _follow(admin, console)


def plain_table(found: Sequence[pb.SessionSummary]) -> str:
    """Return a table of sessions as text."""
    return plain(_sessions(found))


def facts_of(message: Message) -> dict[str, Any]:
    """Return the fields of a message as JSON can say them; states by their words.

    A message in it that is absent is None.
    """
    facts = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    for name, value in facts.items():
        if isinstance(value, Message):
            facts[name] = facts_of(value) if message.HasField(name) else None
    if isinstance(message, pb.SessionSummary):
        facts["state"] = _state(message)
    if isinstance(message, pb.FederationSummary):
        facts["state"] = federation_state(message)
    return facts


def _facts(seen: Seen) -> dict[str, Any]:
    return {
        **facts_of(seen.status),
        "federations": [facts_of(summary) for summary in seen.federations],
        "sessions": [facts_of(summary) for summary in seen.sessions],
    }


def _print(seen: Seen, console: Console) -> None:
    if console.is_terminal:
        console.print(_whole(seen))
        return
    print(*(line.plain for line in _head(seen.status)), sep="\n")
    if seen.federations:
        print(plain(_federations(seen.federations)), end="\n\n")
    print(plain_table(seen.sessions))


def _follow(admin: AdminClient, console: Console) -> None:
    first = _whole(Seen.of(admin))
    with Live(first, console=console, auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(REFRESH_SECONDS)
            live.update(_whole(Seen.of(admin)), refresh=True)


def _whole(seen: Seen) -> Group:
    shown: list[RenderableType] = [*_head(seen.status)]
    if seen.federations:
        shown += [_federations(seen.federations), Text()]
    return Group(*shown, _sessions(seen.sessions))


def _federations(found: Sequence[pb.FederationSummary]) -> Group:
    return Group(federations_table(found), *failures(found))


def plain(shown: RenderableType, width: int = PLAIN_WIDTH) -> str:
    """Return what is shown as text, for what is no terminal of so many columns."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _head(status: pb.ServerStatusResponse) -> list[Text]:
    doing = "stopping" if status.draining else "serving"
    used = status.device_bytes - status.device_free_bytes
    sharing = f" and {many} that share a body" if (many := status.sharing_sessions) else ""
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
            f"{status.sessions_in_memory} of {status.max_sessions} sessions in memory{sharing}, "
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
