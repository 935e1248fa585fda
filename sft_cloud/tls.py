"""Certificate and key of a server: read, checked, and read again when they change."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from sft_common.errors import ConfigError, first_line
from sft_common.files import read_named, stamp_of

log = logging.getLogger(__name__)

SOON = timedelta(days=30)
"""How long before its end a certificate is warned of."""


class Contents(NamedTuple):
    """What the files held, known to fit together."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    end: datetime
    """When the certificate expires."""


class ServerFiles:
    """The files of a server that speaks TLS, looked at again with every new connection.

    What is broken later is logged once, and the server goes on with what it had.

    Args:
        certificate: PEM, its own certificate first.
        key: PEM, not encrypted.
        client_ca: PEM, authorities whose certificates clients must show; None: they show none.

    Raises:
        ConfigError: a file is not there, not what it should be, or does not fit.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._paths = [certificate, key, *([client_ca] if client_ca else [])]
        self._seen = self._stamps()
        self._contents = read_files(certificate, key, client_ca)
        self._warn()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what gRPC serves with."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            cast(Any, self._changed),  # the types do not know None, which means no change
            require_client_authentication=len(self._paths) > 2,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what changed files hold; gRPC calls it before every handshake, in its threads.

        An error here would turn the client away.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return None
        self._seen = stamps
        try:
            self._contents = read_files(*self._paths)
            self._warn()
        except Exception as error:
            log.error("%s; TLS goes on with what was read before", first_line(error))
            return None
        log.info("TLS goes on with changed files: the certificate is good until %s", self._end())
        return self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        contents = self._contents
        return grpc.ssl_server_certificate_configuration(
            [(contents.key, contents.certificate)], root_certificates=contents.client_ca
        )

    def _warn(self) -> None:
        certificate, key, *_ = self._paths
        if self._contents.end - datetime.now(UTC) < SOON:
            log.warning("--tls-cert %s: expires on %s; renew it", certificate, self._end())
        if key.stat().st_mode & 0o044:
            log.warning("--tls-key %s: others on this machine can read it; chmod 600 it", key)

    def _end(self) -> str:
        return f"{self._contents.end:%Y-%m-%d}"

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [stamp_of(path) for path in self._paths]


def read_files(certificate: Path, key: Path, client_ca: Path | None = None) -> Contents:
    """Read the files of a server that speaks TLS, and check that they fit.

    Raises:
        ConfigError: says which file is wrong, and in what.
    """
    contents = read_named("--tls-cert", certificate)
    own = _certificates("--tls-cert", certificate, contents)[0]
    now, begin, end = datetime.now(UTC), own.not_valid_before_utc, own.not_valid_after_utc
    if not begin <= now <= end:
        raise ConfigError(
            f"--tls-cert {certificate}: is good from {begin:%Y-%m-%d %H:%M} to "
            f"{end:%Y-%m-%d %H:%M} UTC, now is {now:%Y-%m-%d %H:%M}; renew it, or set the clock"
        )
    if not _is_for_servers(own):
        raise ConfigError(f"--tls-cert {certificate}: is a client's certificate, not a server's")
    key_contents = read_named("--tls-key", key)
    if _public_key(key, key_contents) != own.public_key().public_bytes(*_FORMAT):
        raise ConfigError(f"--tls-key {key}: is not the key of --tls-cert {certificate}")
    authorities = read_named("--client-ca", client_ca) if client_ca else None
    if client_ca and authorities is not None:
        _certificates("--client-ca", client_ca, authorities)
    return Contents(contents, key_contents, authorities, end)


def _is_for_servers(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in uses


_FORMAT = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _certificates(option: str, path: Path, contents: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(contents)
    except ValueError as error:
        raise ConfigError(f"{option} {path}: holds no certificate in PEM") from error


def _public_key(path: Path, contents: bytes) -> bytes:
    try:
        private = load_pem_private_key(contents, None)
    except TypeError as error:
        raise ConfigError(
            f"--tls-key {path}: is encrypted; write it without a passphrase, for the cloud's user "
            "alone to read"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"--tls-key {path}: holds no private key in PEM") from error
    return private.public_key().public_bytes(*_FORMAT)
