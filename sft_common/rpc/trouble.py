"""Why a cloud is not reached, and what to do. It asks sockets and TLS, as gRPC does not tell."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple

from sft_common.rpc.access import Access

NOT_THERE = "is `sft-cloud serve` running there?"


class Trouble(NamedTuple):
    """Why a cloud is not reached."""

    why: str
    advice: str


def trouble_with(access: Access) -> Trouble:
    """Say why a cloud is not reached, by trying again without gRPC, which does not tell."""
    host, port = access.host, int(access.server.rpartition(":")[2])
    try:
        connection = socket.create_connection((host, port), timeout=access.connect_seconds)
    except UnicodeError:  # a name that the resolver does not even ask for
        return Trouble(f"{host[:80]!r} is no name of a host", "see --server")
    except OSError as error:
        return Trouble(error.strerror or str(error), NOT_THERE)
    with connection:
        return _tls_trouble(connection, access) if access.tls else _plain_trouble(connection)


def _plain_trouble(connection: socket.socket) -> Trouble:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_socket(connection).close()
    except OSError:
        return Trouble("something listens there, but it does not speak gRPC", NOT_THERE)
    return Trouble(
        "it speaks TLS", "give --tls-ca FILE with its authority, or --tls if that is a public one"
    )


def _tls_trouble(connection: socket.socket, access: Access) -> Trouble:
    name = access.name or access.host
    try:
        with access.ssl_context().wrap_socket(connection, server_hostname=name) as tls:
            # With TLS 1.3 a client is refused only after its own handshake is done.
            if tls.recv(1):
                return Trouble("it speaks TLS, but not gRPC", NOT_THERE)
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error, access)
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return _NO_TLS
    except TimeoutError:
        return Trouble("something listens there, but it does not speak gRPC over TLS", NOT_THERE)
    except OSError:
        return _NO_TLS
    if access.certificate:
        return Trouble(
            f"it does not take the certificate {access.certificate}",
            "it must not be expired, and be signed by the authority in the cloud's --client-ca",
        )
    return Trouble("it asks for a certificate", "give --tls-cert FILE and --tls-key FILE")


_NO_TLS = Trouble(
    "it does not speak TLS",
    "start it with --tls-cert and --tls-key, or leave the --tls options out here",
)


def _untrusted(error: ssl.SSLCertVerificationError, access: Access) -> Trouble:
    why = error.verify_message.rstrip(".")
    if "mismatch" in why:
        return Trouble(
            f"its certificate is not for {access.name or access.host}",
            "use a name that it is for, as --server or as --tls-name",
        )
    if "expired" in why or "not yet valid" in why:
        return Trouble(why, "the cloud's owner must renew it, or this machine's clock is wrong")
    if "purpose" in why:
        return Trouble(
            "its certificate is not a server's", "the cloud's owner must start it with one that is"
        )
    there = access.roots or "the public authorities"
    return Trouble(
        f"its certificate is not to be trusted by {there}: {why}",
        "give the file of its own authority as --tls-ca",
    )
