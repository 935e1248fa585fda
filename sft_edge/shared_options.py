"""Options that several commands of `sft-edge` have: cloud, data, retries, output."""

from __future__ import annotations

import argparse
from pathlib import Path

from sft_common.commandline import address, number_in, real_in
from sft_common.rpc.options import MAX_MESSAGE_MB, MOST_MESSAGE_MB
from sft_edge.login import add_access_options, add_waiting_options

MANY = 10**9
"""More than anybody counts to: the end of ranges that have none."""


def add_connection(command: argparse._ActionsContainer, *, default: str | None, note: str) -> None:
    """Add where the cloud is, how long to wait for it, and what to show there."""
    command.add_argument(
        "--server",
        type=address,
        default=default,
        metavar="HOST:PORT",
        help=f"the cloud ({note})",
    )
    add_waiting_options(command)
    add_access_options(command)


def add_data(group: argparse._ActionsContainer) -> None:
    """Add where a task's data are, and which columns they have."""
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with train and validation as .jsonl, .jsonl.gz, .csv or .parquet "
        "(default: the hub; for the demo: shipped)",
    )
    group.add_argument(
        "--text-column",
        "--image-column",
        action="append",
        metavar="NAME",
        help="own data: the column of the text, words or image; twice for a pair of texts",
    )
    group.add_argument("--label-column", metavar="NAME", help="own data: the column of the class")


def add_retrying(command: argparse._ActionsContainer) -> None:
    """Add how long a lost cloud is waited for."""
    command.add_argument(
        "--retry-for",
        type=real_in(0, 10**7),
        default=3600.0,
        metavar="SECONDS",
        help="how long to try again when the cloud is lost; 0: not at all (default %(default)g)",
    )
    command.add_argument(
        "--retry-pause",
        type=real_in(0.5, 10**7),
        default=30.0,
        metavar="SECONDS",
        help="longest pause between two tries; they begin with half a second (default %(default)g)",
    )


def add_largest_message(command: argparse._ActionsContainer) -> None:
    """Add how large a tensor may be that travels."""
    command.add_argument(
        "--max-message",
        type=number_in(1, MOST_MESSAGE_MB),
        default=MAX_MESSAGE_MB,
        metavar="MB",
        help="largest tensor of a request or an answer; the cloud has its own limit "
        "(default %(default)s)",
    )


def add_room(command: argparse._ActionsContainer, *, default: float) -> None:
    """Add how long a cloud without room is waited for."""
    command.add_argument(
        "--wait",
        type=real_in(0, 10**7),
        default=default,
        metavar="SECONDS",
        help="how long to wait for room on a cloud that is full (default %(default)g)",
    )


def add_board(command: argparse._ActionsContainer) -> None:
    """Add the log for TensorBoard."""
    command.add_argument(
        "--tensorboard",
        type=Path,
        nargs="?",
        const=True,
        metavar="DIR",
        help="write a log for TensorBoard too (default DIR: tensorboard in the run's folder)",
    )


def add_shown(group: argparse._ActionsContainer) -> None:
    """Add what is shown of a run, and how often it is told."""
    group.add_argument(
        "--log-every", type=number_in(1, MANY), default=10, metavar="N", help="steps per log line"
    )
    group.add_argument("--quiet", action="store_true", help="show errors only")
    group.add_argument("--json", action="store_true", help="print metrics.json instead of a table")
