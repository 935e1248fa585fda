"""The `certs` command: an authority of one's own, and what it signs for a server and clients.

Keys are of the curve P-256. Whoever has ca-key.pem makes certificates that all of them trust.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import secrets
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sft_cloud.tokens import check_name
from sft_common.errors import ConfigError
from sft_common.files import check_new, read_named, write_private, written_aside

CA_DAYS = 3650

EARLIER = timedelta(hours=1)
"""Certificates are good from a little before now: clocks differ."""

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
"""A server's certificate is for these too, so that it can be asked from where it runs."""

_HOST = re.compile(r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9-]{1,63}")


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path, name: str) -> None:
        """Write NAME-key.pem, then NAME.pem."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(folder / f"{name}-key.pem", key)
        with written_aside(folder / f"{name}.pem") as aside:
            aside.write_bytes(self.certificate.public_bytes(Encoding.PEM))


def run_certs(options: argparse.Namespace) -> None:
    """Make certificates with the options of `sft-cloud certs`.

    Raises:
        ConfigError: a name is none, or there already; the folder holds no authority of ours.
        OSError: the disk does not take them.
    """
    folder: Path = options.to
    names = [_client_name(name) for name in options.client]
    hosts = [_general_name(host) for host in options.host]
    if folder.exists():
        made = _add(folder, hosts, names, options)
    else:
        check_new(folder)
        if not hosts:
            raise ConfigError("a new folder needs --host NAME, as edges will give it in --server")
        with written_aside(folder) as aside:
            aside.mkdir(mode=0o700)
            authority = new_authority()
            authority.write(aside, "ca")
            _write(aside, authority, hosts, names, options.days)
        made = ["ca", "server", *names]
    for name in made:
        print(f"made {folder / name}.pem and {folder / name}-key.pem")
    print(_how_to_use(folder, options.host, names))


def new_authority() -> Signed:
    """Return a new authority that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Of two authorities with one name, checkers would blame a signature.
    name = _named(f"SFT authority {secrets.token_hex(4)}")
    builder = _builder(name, name, key, datetime.now(UTC) + timedelta(days=CA_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return Signed(certificate=builder.sign(key, hashes.SHA256()), key=key)


def sign(
    authority: Signed, common_name: str, days: int, hosts: list[x509.GeneralName] | None = None
) -> Signed:
    """Return a certificate that an authority has signed.

    Args:
        authority: who signs.
        common_name: whose certificate it is.
        days: how long it is good, at most as long as the authority's own.
        hosts: names and addresses of a server; None for a client.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    end = min(datetime.now(UTC) + timedelta(days=days), issuer.not_valid_after_utc)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = _builder(_named(common_name), issuer.subject, key, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(above, critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return Signed(certificate=builder.sign(authority.key, hashes.SHA256()), key=key)


def _add(
    folder: Path, hosts: list[x509.GeneralName], names: list[str], options: argparse.Namespace
) -> list[str]:
    """Sign more with the authority in a folder; returns what was made."""
    authority = _read_authority(folder)
    made = [*(["server"] if hosts else []), *names]
    if not made:
        raise ConfigError(f"{folder} is there already; say what to add: --client NAME or --host")
    there = [name for name in made if (folder / f"{name}.pem").exists()]
    if there and not options.renew:
        raise ConfigError(
            f"{folder / there[0]}.pem is there already; give --renew to put a new one in its place"
        )
    _write(folder, authority, hosts, names, options.days)
    return made


def _write(
    folder: Path, authority: Signed, hosts: list[x509.GeneralName], names: list[str], days: int
) -> None:
    if hosts:
        own = [_general_name(host) for host in THIS_MACHINE]
        everywhere = [*hosts, *(name for name in own if name not in hosts)]
        sign(authority, "sft-cloud", days, everywhere).write(folder, "server")
    for name in names:
        sign(authority, name, days).write(folder, name)


def _read_authority(folder: Path) -> Signed:
    file, key_file = folder / "ca.pem", folder / "ca-key.pem"
    try:
        certificate = x509.load_pem_x509_certificate(read_named("--to", file))
        key = load_pem_private_key(read_named("--to", key_file), None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--to {folder}: ca.pem or ca-key.pem there is broken") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != (
        certificate.public_key()
    ):
        raise ConfigError(f"--to {folder}: ca-key.pem there is not the key of ca.pem")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise ConfigError(f"--to {folder}: ca.pem there has expired; make a new folder")
    return Signed(certificate=certificate, key=key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - EARLIER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Return what a key is for: signing certificates, or the handshakes of TLS."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _client_name(name: str) -> str:
    if check_name(name) in ("ca", "server") or name.endswith("-key"):
        raise ConfigError(f"--client {name}: would be mistaken for another file; choose another")
    return name


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ConfigError(f"--host {host!r}: is neither a host's name nor an address")
    return x509.DNSName(host)


def _how_to_use(folder: Path, hosts: list[str], names: list[str]) -> str:
    host, place = hosts[0] if hosts else "HOST", shlex.quote(str(folder))
    server = f"{host}:50051" if ":" not in host else f"[{host.strip('[]')}]:50051"
    serve = f"--tls-cert {place}/server.pem --tls-key {place}/server-key.pem"
    edge = f"--tls-ca {place}/ca.pem"
    if names:
        serve += f" --client-ca {place}/ca.pem"
        edge += f" --tls-cert {place}/{names[0]}.pem --tls-key {place}/{names[0]}-key.pem"
    return (
        f"the cloud:  sft-cloud serve --host 0.0.0.0 {serve}\n"
        f"the edge:   sft-edge train --task demo --server {server} {edge}\n"
        f"keep {place}/ca-key.pem away from both: only this command needs it"
    )
