"""Options about who may come in: of `serve`, of `certs`, and of `token`."""

from __future__ import annotations

from pathlib import Path

from sft_common.commandline import OneLineParser, number_in


def add_door_options(serve: OneLineParser) -> None:
    """Add what `serve` is told about TLS and logins."""
    serve.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="speak TLS with this certificate (PEM)"
    )
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="key of --tls-cert (PEM)")
    serve.add_argument(
        "--client-ca",
        type=Path,
        metavar="FILE",
        help="let in only who shows a certificate of an authority in this file",
    )
    serve.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="let in only who shows a token of this file, which `sft-cloud token` writes",
    )
    serve.add_argument(
        "--insecure",
        action="store_true",
        help="listen for other machines without TLS, on a network you trust",
    )


def add_certs_options(certs: OneLineParser) -> None:
    """Add the options of `certs`."""
    certs.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="a new folder, or one that this command made: it is added to",
    )
    certs.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="name or address that edges give as --server; may be repeated (localhost is added)",
    )
    certs.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="NAME",
        help="make a certificate for this edge; may be repeated",
    )
    certs.add_argument(
        "--days",
        type=number_in(1, 3650),
        default=365,
        metavar="N",
        help="how long server and clients may use theirs (default %(default)s; authority: 3650)",
    )
    certs.add_argument(
        "--renew", action="store_true", help="put new certificates in place of former ones"
    )


def add_token_options(token: OneLineParser) -> None:
    """Add the options of `token`."""
    token.add_argument("name", metavar="NAME", help="of the edge")
    token.add_argument(
        "--tokens", type=Path, required=True, metavar="FILE", help="as given to serve --tokens"
    )
    change = token.add_mutually_exclusive_group()
    change.add_argument(
        "--replace", action="store_true", help="if the edge has a token, it no longer holds"
    )
    change.add_argument("--revoke", action="store_true", help="take the edge's token away")
