"""A gRPC channel to a cloud, with its TLS and its token. trouble.py says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import grpc

from sft_common.rpc.access import Access
from sft_common.rpc.options import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, pinged, sized


def open_channel(access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
    """Return a channel, which connects by and by; `with_token` adds the token.

    Raises:
        ConfigError: a file of the access is not there any more, or broken.
    """
    pings = pinged(CHANNEL_OPTIONS, access.ping_seconds, access.ping_answer_seconds)
    options: list[tuple[str, Any]] = [*sized(pings, max_message_bytes)]
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
