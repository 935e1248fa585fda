"""Whether TLS is spoken, and what the certificates of both sides are good for, and until when."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from sft_common.errors import ConfigError, printable
from sft_common.files import read_named
from sft_common.rpc.access import Access, is_loopback
from sft_common.rpc.trouble import trouble_with
from sft_edge.doctor.finding import Finding, ok, warning, wrong

SOON = timedelta(days=30)
"""How long before its end a certificate is warned of."""

SHOWN = 5
"""Names of a certificate that are shown."""


def check_tls(access: Access) -> Finding:
    """Return whether TLS is spoken, and what the certificate of the cloud is.

    Raises:
        OSError: nobody is there, or does not answer within `connect_seconds`.
    """
    if not access.tls:
        return _plain(access)
    try:
        spoken, shown = _handshake(access)
    except ssl.SSLError:
        trouble = trouble_with(access)
        return wrong("tls", trouble.why, trouble.advice)
    certificate = x509.load_der_x509_certificate(shown)
    whose = f"{spoken}, the cloud's certificate for {_names(certificate)}"
    renew = "the cloud's owner renews it: sft-cloud certs --renew"
    finding = check_dates("tls", whose, certificate, renew)
    authority = _authority(access, certificate)
    if authority is None or finding.advice:
        return finding
    until = check_dates(
        "tls", f"{whose}, its authority", authority, "the cloud's owner makes a new authority"
    )
    return until if until.advice else finding


def check_client_certificate(path: Path) -> Finding:
    """Return until when the certificate of this edge is good; raises ConfigError if it is none."""
    certificate = _read("--tls-cert", path)[0]
    renew = "the cloud's owner makes a new one: sft-cloud certs --client NAME --renew"
    return check_dates(
        "client certificate", f"{path} for {_names(certificate)}", certificate, renew
    )


def check_dates(check: str, whose: str, certificate: x509.Certificate, renew: str) -> Finding:
    """Return whether a certificate is good now, and for a while.

    Args:
        check: its name.
        whose: what the certificate is.
        certificate: looked at.
        renew: what to do about its end.
    """
    now = datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        found = f"{whose}: good from {begin:%Y-%m-%d %H:%M} UTC, now is {now:%Y-%m-%d %H:%M}"
        return wrong(check, found, "set this machine's clock")
    found = f"{whose}: good until {end:%Y-%m-%d} ({(end - now).days} days)"
    if end < now:
        return wrong(check, f"{whose}: expired on {end:%Y-%m-%d}", renew)
    return warning(check, found, renew) if end - now < SOON else ok(check, found)


def _plain(access: Access) -> Finding:
    if is_loopback(access.host):
        return ok("tls", "off; the cloud is on this machine")
    return warning(
        "tls",
        f"off: all that goes to {access.server} can be read and changed on the way",
        "start the cloud with --tls-cert and --tls-key, and give --tls-ca FILE here",
    )


def _handshake(access: Access) -> tuple[str, bytes]:
    """Return what is spoken and the cloud's certificate, which this edge trusts.

    Raises:
        ssl.SSLError: it does not, or TLS is not spoken.
        OSError: nobody is there.
    """
    port = int(access.server.rpartition(":")[2])
    seconds, name = access.connect_seconds, access.name or access.host
    with socket.create_connection((access.host, port), timeout=seconds) as connection:
        with access.ssl_context().wrap_socket(connection, server_hostname=name) as tls:
            return tls.version() or "TLS", tls.getpeercert(binary_form=True) or b""


def _authority(access: Access, certificate: x509.Certificate) -> x509.Certificate | None:
    """Return who signed a certificate, if it is in the file of this edge."""
    if access.roots is None:
        return None
    roots = _read("--tls-ca", access.roots)
    return next((root for root in roots if root.subject == certificate.issuer), None)


def _read(option: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_named(option, path))
    except ValueError as error:
        raise ConfigError(f"{option} {path}: holds no certificate in PEM") from error


def _names(certificate: x509.Certificate) -> str:
    """Return whom a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        owners = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return _listed(str(owner.value) for owner in owners)
    return _listed(str(name.value) for name in extension.value)


def _listed(names: Iterable[str]) -> str:
    found = [printable(name[:100]) for name in names]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more if found else "nobody by name"
