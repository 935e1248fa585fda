"""A gRPC channel to a cloud, with its TLS and its token, and the reason why there is none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import grpc

from sft_common.rpc.access import Access
from sft_common.rpc.options import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, sized

PROBE_SECONDS = 2.0


def open_channel(access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
    """Return a channel, which connects by and by; `with_token` adds the token.

    Raises:
        ConfigError: a file of the access is not there any more, or broken.
    """
    options: list[tuple[str, Any]] = [*sized(CHANNEL_OPTIONS, max_message_bytes)]
    if not access.tls:
        return grpc.insecure_channel(access.server, options=options)
    access.ssl_context()  # says what is wrong with a file; gRPC would not
    if access.name:
        options.append(("grpc.ssl_target_name_override", access.name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=access.roots.read_bytes() if access.roots else None,
        private_key=access.key.read_bytes() if access.key else None,
        certificate_chain=access.certificate.read_bytes() if access.certificate else None,
    )
    return grpc.secure_channel(access.server, credentials, options=options)


def with_token(channel: grpc.Channel, token: str) -> grpc.Channel:
    """Return a channel that shows a token with every call; the very same for no token.

    gRPC's own call credentials would want TLS, which a cloud on this machine does not need.
    """
    return grpc.intercept_channel(channel, _Bearer(token)) if token else channel


def why_unreached(access: Access) -> str:
    """Say why a cloud is not reached, by trying again without gRPC, which does not tell."""
    host, port = access.host, int(access.server.rpartition(":")[2])
    try:
        connection = socket.create_connection((host, port), timeout=PROBE_SECONDS)
    except OSError as error:
        return error.strerror or str(error)
    with connection:
        return _tls_trouble(connection, access) if access.tls else _plain_trouble(connection)


def _plain_trouble(connection: socket.socket) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_socket(connection).close()
    except OSError:
        return "something listens there, but it does not speak gRPC"
    return "it speaks TLS; give --tls-ca FILE with its authority, or --tls if that is a public one"


def _tls_trouble(connection: socket.socket, access: Access) -> str:
    name = access.name or access.host
    try:
        with access.ssl_context().wrap_socket(connection, server_hostname=name) as tls:
            # With TLS 1.3 a client is refused only after its own handshake is done.
            if tls.recv(1):
                return "TLS works, but what listens there does not speak gRPC"
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error, access)
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return _NO_TLS
    except TimeoutError:
        return "something listens there, but it does not speak gRPC over TLS"
    except OSError:
        return _NO_TLS
    if access.certificate:
        return (
            f"it does not take the certificate {access.certificate}: expired, or not signed by the "
            "authority that the cloud has as --client-ca"
        )
    return "it asks for a certificate; give --tls-cert FILE and --tls-key FILE"


_NO_TLS = (
    "it does not speak TLS; start it with --tls-cert and --tls-key, or leave the --tls options out"
)


def _untrusted(error: ssl.SSLCertVerificationError, access: Access) -> str:
    why = error.verify_message.rstrip(".")
    if "mismatch" in why:
        return (
            f"its certificate is not for {access.name or access.host}; use a name it is for, "
            "in --server or as --tls-name"
        )
    if "expired" in why or "not yet valid" in why:
        return f"{why}: the cloud's, or this machine's clock is wrong"
    there = access.roots or "the public authorities"
    return f"its certificate is not to be trusted by {there}: {why}; give its own as --tls-ca"


class _Details(NamedTuple):
    """Of a call; gRPC wants an object with these."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds a token to the metadata of every call."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    def _call(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), self._header]
        shown = _Details(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        return continuation(shown, request)

    intercept_unary_unary = cast(Any, _call)
    intercept_unary_stream = cast(Any, _call)
    intercept_stream_unary = cast(Any, _call)
    intercept_stream_stream = cast(Any, _call)
