"""Who may come in, as the options of `serve` say it: TLS, client certificates, tokens, or no one.

It reads no certificate itself: a cloud without TLS does not need the package that does.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass

import grpc

from sft_cloud.tokens import Tokens
from sft_common.errors import ConfigError
from sft_common.rpc.access import is_loopback

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Door:
    """What a server asks of those who come."""

    credentials: grpc.ServerCredentials | None = None
    """Of TLS; None: none is spoken."""

    tokens: Tokens | None = None
    """Who may come in; None: no token is asked for."""

    described: str = "this machine only"
    """For people."""


OPEN = Door()
"""No TLS and no login: for loopback."""


def open_door(options: argparse.Namespace) -> Door:
    """Return the door that the options of `sft-cloud serve` describe.

    Raises:
        ConfigError: they do not go together, a file is broken, or all could come in and listen.
    """
    local, tls = is_loopback(options.host), options.tls_cert is not None
    _check(options, local=local, tls=tls)
    tokens = Tokens(options.tokens) if options.tokens else None
    if tokens is not None and not len(tokens):
        log.warning("--tokens %s: holds no token, so nobody may come in", options.tokens)
    if tls and not local and tokens is None and options.client_ca is None:
        log.warning("everyone who reaches the port may come in: no --tokens, no --client-ca")
    return Door(
        credentials=_credentials(options) if tls else None,
        tokens=tokens,
        described=_described(options, local=local, tls=tls),
    )


def _check(options: argparse.Namespace, *, local: bool, tls: bool) -> None:
    if tls != (options.tls_key is not None):
        raise ConfigError("--tls-cert and --tls-key go together: give both files or neither")
    if options.client_ca and not tls:
        raise ConfigError("--client-ca needs TLS; give --tls-cert and --tls-key too")
    if options.insecure and tls:
        raise ConfigError("--insecure means no TLS, --tls-cert means TLS; drop one")
    if not (local or tls or options.insecure):
        what = "tokens and data" if options.tokens else "data"
        raise ConfigError(
            f"--host {options.host} lets other machines in, and {what} would travel in the clear; "
            "give --tls-cert and --tls-key (`sft-cloud certs` makes them), or --insecure if you "
            "trust the network"
        )


def _credentials(options: argparse.Namespace) -> grpc.ServerCredentials:
    try:
        from sft_cloud.tls import ServerFiles
    except ImportError as error:
        raise ConfigError(
            f"TLS needs the package {error.name or 'cryptography'}; install the extra `cloud`"
        ) from error
    return ServerFiles(options.tls_cert, options.tls_key, options.client_ca).credentials()


def _described(options: argparse.Namespace, *, local: bool, tls: bool) -> str:
    asked = ["TLS"] if tls else ["this machine only" if local else "no TLS"]
    asked += ["client certificates"] if options.client_ca else []
    asked += ["tokens"] if options.tokens else []
    if len(asked) > 1:
        return ", ".join(asked)
    if local and not tls:
        return "this machine only; --host 0.0.0.0 and TLS let others in"
    return f"{asked[0]}, no login"
