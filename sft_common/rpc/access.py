"""How to reach a cloud and how to log in to it. It knows no gRPC: both command lines build one."""

from __future__ import annotations

import argparse
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from sft_common.errors import ConfigError
from sft_common.files import read_named


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a cloud is, whom to trust there, and what to show at its door.

    Files are named, not held: whoever connects again finds a renewed certificate.

    Raises:
        ConfigError: options that do not go together, or a token that would travel in the clear.
    """

    server: str
    """Its "host:port"."""

    connect_seconds: float = 10.0
    """How long to try to reach it."""

    reply_seconds: float = 1800.0
    """How long to wait for an answer before the connection is given up and made anew."""

    ping_seconds: float = 60.0
    """After so long without traffic the connection is tried; a cloud takes that every 5."""

    ping_answer_seconds: float = 20.0
    """A connection on which that is not answered for so long is lost."""

    tls: bool = False
    """Whether to speak TLS."""

    roots: Path | None = None
    """Certificates of authorities to trust, PEM; None: those that gRPC brings along."""

    certificate: Path | None = None
    """To show to a cloud that asks for one, PEM."""

    key: Path | None = None
    """Of `certificate`, PEM, not encrypted."""

    name: str = ""
    """What the cloud's certificate must be for; empty: the host."""

    token: str = field(default="", repr=False)
    """Sent with every call; empty: none."""

    insecure: bool = False
    """Whether the token may travel without TLS to another machine."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("--tls-cert and --tls-key go together: give both files or neither")
        if not self.tls and (self.certificate or self.name):
            raise ConfigError(
                f"{'--tls-cert' if self.certificate else '--tls-name'} is of no use without TLS; "
                "give --tls-ca FILE too, or --tls"
            )
        if self.name and not _is_name(self.name):
            raise ConfigError(
                f"--tls-name {self.name[:80]!r}: is neither a host's name nor address"
            )
        if self.token and not (self.tls or self.insecure or is_loopback(self.host)):
            raise ConfigError(
                f"the token would travel to {self.server} for everyone on the way to read; give "
                "--tls-ca FILE or --tls, or --insecure if you trust the network"
            )
        if self.tls:
            self.ssl_context()

    @property
    def host(self) -> str:
        """The host, an IPv6 address without its brackets."""
        return self.server.rpartition(":")[0].strip("[]")

    def ssl_context(self) -> ssl.SSLContext:
        """Return what a TLS handshake with this cloud goes by.

        Raises:
            ConfigError: a file is not there, or not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        if self.roots:
            read_named("--tls-ca", self.roots)
            try:
                context.load_verify_locations(self.roots)
            except (OSError, ValueError) as error:
                raise ConfigError(f"--tls-ca {self.roots}: holds no certificate in PEM") from error
        else:
            context.load_default_certs()
        if self.certificate and self.key:
            _load_pair(context, self.certificate, self.key)
        return context


def _is_name(name: str) -> bool:
    """Return whether TLS can ask for a name at all."""
    labels = name.split(".")
    return name.isascii() and name.isprintable() and all(0 < len(label) < 64 for label in labels)


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached by this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def add_tls_options(command: argparse._ActionsContainer) -> None:
    """Add the options that say how to reach a cloud over TLS."""
    command.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="speak TLS, trust the authorities in this file"
    )
    command.add_argument(
        "--tls", action="store_true", help="speak TLS, trust the public authorities"
    )
    command.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="certificate to show to the cloud"
    )
    command.add_argument("--tls-key", type=Path, metavar="FILE", help="key of --tls-cert")
    command.add_argument(
        "--tls-name",
        default="",
        metavar="NAME",
        help="what the cloud's certificate is for (default: the host of --server)",
    )


def access_of(
    options: argparse.Namespace,
    server: str,
    *,
    token: str = "",
    **seconds: float,
) -> Access:
    """Return the access that the options of `add_tls_options` describe; raises like `Access`.

    Args:
        options: of the command line.
        server: its "host:port".
        token: to show.
        seconds: the waits of `Access`, by their names.
    """
    return Access(
        server=server,
        **seconds,
        tls=options.tls or options.tls_ca is not None,
        roots=options.tls_ca,
        certificate=options.tls_cert,
        key=options.tls_key,
        name=options.tls_name,
        token=token,
        insecure=getattr(options, "insecure", False),
    )


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    read_named("--tls-cert", certificate)
    if b"ENCRYPTED" in read_named("--tls-key", key):  # OpenSSL would ask at the terminal
        raise ConfigError(
            f"--tls-key {key}: is encrypted; write it without a passphrase, for you alone to read"
        )
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"--tls-key {key}: is not the key of --tls-cert {certificate}"
            ) from error
        raise ConfigError(
            f"--tls-cert {certificate} and --tls-key {key}: are not a certificate and its key "
            "in PEM"
        ) from error
