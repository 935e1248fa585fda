"""`sft-cloud`: what a person types on the server. torch and grpc are imported when needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sft_cloud.door_options import add_certs_options, add_token_options
from sft_cloud.operations_options import (
    add_delete_options,
    add_list_options,
    add_status_options,
)
from sft_cloud.serve_options import add_precision, add_serve_options
from sft_common import __version__
from sft_common.commandline import (
    OneLineParser,
    address,
    hide_download_bars,
    number_in,
    real_in,
    run_command,
)
from sft_common.completion import add_shells, script_for
from sft_common.config import CUTS, DECODER_LAYERS, ENCODINGS, MAX_DECODER_LAYERS
from sft_common.rpc.access import access_of, add_tls_options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (an error of the run) or 2 (wrong usage)."""
    options = parser().parse_args(arguments)
    sys.exit(run_command("sft-cloud", lambda: options.run_command(options)))


def parser() -> OneLineParser:
    """Return the parser of all commands."""
    top = OneLineParser(
        prog="sft-cloud", description="The cloud half of split fine-tuning: holds and trains net2."
    )
    top.add_argument("--version", action="version", version=f"sft-cloud {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_prepare(commands)
    _add_health(commands)
    _add_certs(commands)
    _add_token(commands)
    _add_status(commands)
    _add_sessions(commands)
    completion = commands.add_parser("completion", help="print a script for your shell's Tab key")
    add_shells(completion)
    completion.set_defaults(run_command=_completion)
    return top


def _add_serve(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    serve = commands.add_parser("serve", help="serve training sessions until told to stop")
    add_serve_options(serve)
    serve.set_defaults(run_command=_serve)


def _add_prepare(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    prepare = commands.add_parser(
        "prepare", help="heal a model for a cut on public text, before any edge appears"
    )
    prepare.add_argument("--model", required=True, metavar="DIR|ID", help="the model to heal")
    prepare.add_argument(
        "--text",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="public text, one example a line, a tab between the two texts of a pair; .gz too",
    )
    prepare.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="a folder that is not there yet"
    )
    prepare.add_argument(
        "--cut", default="stream", metavar="CUT", help="any but none (default %(default)s)"
    )
    prepare.add_argument(
        "--split-layer", type=int, required=True, metavar="L", help="block to cut, 1 is the lowest"
    )
    prepare.add_argument("--rank", type=int, required=True, metavar="R", help="numbers per token")
    prepare.add_argument(
        "--decoder-layers",
        type=number_in(0, MAX_DECODER_LAYERS),
        metavar="N",
        help="feed-forward layers behind the cloud's decoder "
        f"(default {DECODER_LAYERS}; 0 for cuts without basis)",
    )
    count = number_in(1, 10**9)
    prepare.add_argument(
        "--local-steps",
        type=number_in(0, 10**9),
        default=3000,
        metavar="N",
        help="first so many cheap steps that heal the cut block alone (default %(default)s)",
    )
    prepare.add_argument(
        "--steps",
        type=count,
        default=1000,
        metavar="N",
        help="steps that heal all blocks from the cut on (default %(default)s)",
    )
    prepare.add_argument(
        "--batch-size", type=count, default=32, metavar="N", help="default %(default)s"
    )
    prepare.add_argument(
        "--max-length", type=count, default=128, metavar="TOKENS", help="default %(default)s"
    )
    prepare.add_argument(
        "--learning-rate",
        type=real_in(0, 1),
        default=1e-3,
        metavar="RATE",
        help="default %(default)g",
    )
    add_precision(prepare)
    prepare.add_argument(
        "--encoding",
        choices=ENCODINGS,
        default="float32",
        help="how activations will travel: the cut heals behind its rounding (default %(default)s)",
    )
    prepare.add_argument(
        "--seed", type=number_in(0, 2**31), default=0, metavar="N", help="default %(default)s"
    )
    device = prepare.add_mutually_exclusive_group()
    device.add_argument("--gpu", type=number_in(0, 1023), metavar="N", help="run on CUDA device N")
    device.add_argument("--cpu", action="store_true", help="run on the CPU")
    prepare.set_defaults(run_command=_prepare)


def _add_health(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    health = commands.add_parser("health", help="exit 0 if a cloud serves, 1 if not")
    health.add_argument("--server", type=address, default="localhost:50051", metavar="HOST:PORT")
    health.add_argument(
        "--timeout",
        type=real_in(0.1, 86_400),
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for an answer (default %(default)g)",
    )
    add_tls_options(health)
    health.set_defaults(run_command=_health)


def _add_certs(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    certs = commands.add_parser(
        "certs", help="make an authority of one's own, a server certificate and client certificates"
    )
    add_certs_options(certs)
    certs.set_defaults(run_command=_certs)


def _add_token(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    token = commands.add_parser("token", help="let an edge in: make its token, and print it once")
    add_token_options(token)
    token.set_defaults(run_command=_token)


def _add_status(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    status = commands.add_parser(
        "status", help="show a cloud of this machine, its federations and sessions, until Ctrl-C"
    )
    add_status_options(status)
    status.set_defaults(run_command=_status)


def _add_sessions(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    sessions = commands.add_parser("sessions", help="list or delete sessions of this machine")
    actions = sessions.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list sessions in memory and on disk")
    add_list_options(listing)
    listing.set_defaults(run_command=_sessions_list)
    delete = actions.add_parser("delete", help="delete all there is of sessions, for good")
    add_delete_options(delete)
    delete.set_defaults(run_command=_sessions_delete)


def _serve(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_cloud.serve import run_server

    run_server(options)


def _prepare(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_cloud.prepare import run_prepare

    run_prepare(options)


def _health(options: argparse.Namespace) -> None:
    from sft_cloud.health import check

    print(check(access_of(options, options.server, connect_seconds=options.timeout)))


def _certs(options: argparse.Namespace) -> None:
    from sft_cloud.certs import run_certs

    run_certs(options)


def _token(options: argparse.Namespace) -> None:
    from sft_cloud.tokens import run_token

    run_token(options)


def _status(options: argparse.Namespace) -> None:
    from sft_cloud.status import run_status

    run_status(options)


def _sessions_list(options: argparse.Namespace) -> None:
    from sft_cloud.sessions_command import run_list

    run_list(options)


def _sessions_delete(options: argparse.Namespace) -> None:
    from sft_cloud.sessions_command import run_delete

    run_delete(options)


def _completion(options: argparse.Namespace) -> None:
    cuts = [cut for cut in CUTS if cut != "none"]  # of prepare, the only command with a cut
    print(script_for(options.shell, parser(), {"cut": cuts}))
