"""Who may call: every call shows a token, and a handler can ask who called. It knows no sessions.

Only the standard health checks are open to everyone, as balancers and containers ask them.
"""

from __future__ import annotations

import contextvars
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health

from sft_cloud.metrics import Metrics
from sft_cloud.tokens import Tokens
from sft_common.errors import AuthenticationError
from sft_common.rpc.status import status_of

log = logging.getLogger(__name__)

OPEN_TO_ALL = (f"/{health.SERVICE_NAME}/Check", f"/{health.SERVICE_NAME}/Watch")

REFUSAL = (
    "this cloud lets in who shows a token that it knows; give --token-file FILE or SFT_TOKEN, "
    "or ask its owner for a token"
)
"""The same for no token and for a wrong one: it tells nothing of what the cloud knows."""

_shown: contextvars.ContextVar[str] = contextvars.ContextVar("name of the token's edge", default="")


def identity_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return who calls: a name that no other caller has.

    The name that belongs to the token; for a cloud without tokens the common name of the client's
    certificate, or a digest of the certificate if it has none; for a cloud that asks for neither
    the empty string.

    Args:
        context: of the call; to be asked in the call's own task.
    """
    if shown := _shown.get():
        return shown
    parts = context.auth_context()
    for name in parts.get("x509_common_name", ()):
        if name:
            return str(name, "utf-8", "backslashreplace")
    for certificate in parts.get("x509_pem_cert", ()):
        return f"sha256:{hashlib.sha256(certificate).hexdigest()}"
    return ""


class TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses calls without a token that the cloud knows, of whatever service.

    Args:
        tokens: who may come in.
        metrics: counts refusals.
    """

    def __init__(self, tokens: Tokens, metrics: Metrics | None = None) -> None:
        self._tokens, self._metrics = tokens, metrics or Metrics()

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Hand a call on, or answer it with a refusal before any of its messages is read."""
        if handler_call_details.method in OPEN_TO_ALL:
            return await continuation(handler_call_details)
        name = self._tokens.name_of(_token_in(handler_call_details.invocation_metadata))
        if name is None:
            self._metrics.failed("UNAUTHENTICATED", AuthenticationError.__name__)
            return grpc.stream_stream_rpc_method_handler(_refuse)
        # gRPC runs the handler in the same context, which is this call's alone.
        _shown.set(name)
        return await continuation(handler_call_details)


def _token_in(metadata: Any) -> str:
    """Return the one bearer token of a call; empty if there is none, or several."""
    headers = [value for key, value in metadata or () if key == "authorization"]
    if len(headers) != 1 or not isinstance(headers[0], str):
        return ""
    scheme, _, token = headers[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _refuse(
    requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
) -> None:
    log.warning("a call from %s was refused: it shows no token that is known", context.peer())
    status = status_of(AuthenticationError(REFUSAL))
    await context.abort(status.code, status.details, status.trailing_metadata)
