"""The token that an edge shows to a cloud: where it is read from, and never from the command line.

Other users of a machine see the arguments of its processes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sft_common.commandline import KEEPALIVE, add_waits
from sft_common.errors import ConfigError
from sft_common.files import read_named
from sft_common.rpc.access import Access, access_of, add_tls_options

VARIABLE = "SFT_TOKEN"

LONGEST_TOKEN = 1024
"""Characters; gRPC takes 8 kB of metadata with a call."""


def add_access_options(command: argparse._ActionsContainer) -> None:
    """Add the options that say how to reach a cloud safely and log in to it."""
    add_tls_options(command)
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"the token to show to the cloud (default: {VARIABLE} of the environment, if set)",
    )
    command.add_argument(
        "--insecure",
        action="store_true",
        help="let the token travel without TLS to another machine, over a network you trust",
    )


def add_waiting_options(command: argparse._ActionsContainer) -> None:
    """Add the options that say how long to wait for a cloud."""
    reaching = ("--connect-timeout", 0.1, 10.0, "how long to try to reach it")
    answers = ("--reply-timeout", 1.0, 1800.0, "connect anew if an answer takes longer")
    add_waits(command, (reaching, answers, *KEEPALIVE))


def edge_access(options: argparse.Namespace, server: str) -> Access:
    """Return how the options say to reach a server.

    Raises:
        ConfigError: they do not go together, or a file they name is not what it should be.
    """
    return access_of(
        options,
        server,
        token=_token(options.token_file),
        connect_seconds=options.connect_timeout,
        reply_seconds=options.reply_timeout,
        ping_seconds=options.keepalive,
        ping_answer_seconds=options.keepalive_timeout,
    )


def _token(file: Path | None) -> str:
    if file is None:
        return _checked(os.environ.get(VARIABLE, ""), VARIABLE)
    source = f"--token-file {file}"
    try:
        text = read_named("--token-file", file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: is no text") from error
    if not text.strip():
        raise ConfigError(f"{source}: is empty; it must hold the token")
    return _checked(text, source)


def _checked(text: str, source: str) -> str:
    """Return a token without white space around it; an error never shows it."""
    token = text.strip()
    if len(text) > LONGEST_TOKEN:
        raise ConfigError(f"{source}: is longer than {LONGEST_TOKEN} characters, which no token is")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{source}: is not one token on one line, as `sft-cloud token` prints it")
    return token
