"""Options about running a cloud: of `serve`, of `status`, and of `sessions`."""

from __future__ import annotations

from pathlib import Path

from sft_common.commandline import OneLineParser, number_in, real_in

SAVE_DIR = Path("sessions")


def add_operations_options(serve: OneLineParser) -> None:
    """Add what `serve` is told about being looked after."""
    serve.add_argument(
        "--forget-after",
        type=real_in(0, 36_500),
        default=30.0,
        metavar="DAYS",
        help="delete a session from disk that was not closed, and not touched for so long "
        "(default %(default)g; 0: never)",
    )
    serve.add_argument(
        "--metrics-port",
        type=number_in(0, 65535),
        metavar="PORT",
        help="serve metrics for Prometheus there; 0: a free one (default: none are served)",
    )
    serve.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to serve metrics on, without TLS or login (default %(default)s)",
    )
    serve.add_argument(
        "--metrics-port-file", type=Path, metavar="FILE", help="write the port of metrics here"
    )
    serve.add_argument(
        "--log-format",
        choices=["text", "json"],
        default="text",
        help="of the log on standard error; json: one object a line (default %(default)s)",
    )
    serve.add_argument(
        "--no-reflection",
        action="store_true",
        help="do not tell callers what the services look like",
    )
    serve.add_argument(
        "--admin-socket",
        metavar="PATH|none",
        help="where `sft-cloud status` and `sessions` reach this cloud "
        "(default: .admin.sock in --save-dir)",
    )


def add_place_options(command: OneLineParser, seconds: float = 10.0) -> None:
    """Add the options that say which cloud of this machine is meant, and how long to wait for it.

    Args:
        command: to add them to.
        seconds: to wait for an answer unless told otherwise.
    """
    place = command.add_mutually_exclusive_group()
    place.add_argument(
        "--save-dir",
        type=Path,
        default=SAVE_DIR,
        metavar="DIR",
        help="as given to serve (default %(default)s)",
    )
    place.add_argument("--admin-socket", metavar="PATH", help="as given to serve")
    command.add_argument(
        "--timeout",
        type=real_in(0.1, 86_400),
        default=seconds,
        metavar="SECONDS",
        help="how long to wait for an answer (default %(default)g)",
    )


def add_status_options(status: OneLineParser) -> None:
    """Add the options of `status`."""
    add_place_options(status)
    status.add_argument("--once", action="store_true", help="show it once, do not follow")
    status.add_argument("--json", action="store_true", help="show it once, as a JSON object")


def add_list_options(listing: OneLineParser) -> None:
    """Add the options of `sessions list`."""
    add_place_options(listing)
    listing.add_argument("--json", action="store_true", help="as a JSON list")


def add_delete_options(delete: OneLineParser) -> None:
    """Add the options of `sessions delete`."""
    delete.add_argument("sessions", nargs="*", metavar="SESSION", help="names of sessions")
    delete.add_argument("--owner", metavar="NAME", help="all that this edge has opened")
    delete.add_argument(
        "--older-than",
        type=real_in(0, 36_500),
        metavar="DAYS",
        help="all that nothing was asked of, and nothing written of, for so long",
    )
    delete.add_argument("--yes", action="store_true", help="do not ask")
    add_place_options(delete, 600.0)  # a step, or the writing of a snapshot, is waited for
