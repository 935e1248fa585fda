"""Who calls, as a handler is told: by token, by certificate, or nobody."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sft_cloud import certs
from sft_cloud.access import REFUSAL, TokenCheck, identity_of
from sft_cloud.certs import run_certs
from sft_cloud.tls import ServerFiles
from sft_cloud.tokens import Tokens, run_token
from sft_common.errors import AuthenticationError
from sft_common.rpc.access import Access
from sft_common.rpc.channel import open_channel, with_token
from sft_common.rpc.status import error_of


async def who(
    requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
) -> AsyncIterator[bytes]:
    """Say who calls, once for each request and once more at the end."""
    async for _ in requests:
        await asyncio.sleep(0)
        yield identity_of(context).encode()
    yield identity_of(context).encode()


class Server:
    """A server in the test's own event loop."""

    def __init__(self, tokens: Tokens | None, credentials: grpc.ServerCredentials | None) -> None:
        checks = [TokenCheck(tokens)] if tokens else []
        self._server = grpc.aio.server(interceptors=checks)
        methods = {"Who": grpc.stream_stream_rpc_method_handler(who)}
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("a.B", methods)]
        )
        address = "127.0.0.1:0"
        self.port = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )

    async def __aenter__(self) -> Server:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


def asked(access: Access, token: str = "") -> set[str]:
    """Call and return who the server says that called."""
    with open_channel(access) as channel:
        call: Any = with_token(channel, token).stream_stream("/a.B/Who")
        return {name.decode() for name in call(iter([b"", b""]), wait_for_ready=True)}


def answers(
    *calls: tuple[dict[str, Any], str],
    tokens: Tokens | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> list[set[str]]:
    """Return the answers to calls that are made at once."""

    async def ask() -> list[set[str]]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(8) as pool:
            async with Server(tokens, credentials) as server:
                address = f"127.0.0.1:{server.port}"
                return await asyncio.gather(
                    *(
                        loop.run_in_executor(pool, asked, Access(server=address, **how), token)
                        for how, token in calls
                    )
                )

    return asyncio.run(ask())


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    clients = ["lab", "other"]
    run_certs(
        argparse.Namespace(to=tmp_path / "pki", host=["a"], client=clients, days=9, renew=False)
    )
    return tmp_path / "pki"


def client(pki: Path, name: str) -> dict[str, Any]:
    pair = {"certificate": pki / f"{name}.pem", "key": pki / f"{name}-key.pem"}
    return {"tls": True, "roots": pki / "ca.pem", **pair}


def mutual(pki: Path) -> grpc.ServerCredentials:
    return ServerFiles(pki / "server.pem", pki / "server-key.pem", pki / "ca.pem").credentials()


@pytest.fixture
def known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Tokens, dict[str, str]]:
    """A file of tokens, and the tokens by name."""
    shown = {}
    for name in ("one", "two"):
        run_token(argparse.Namespace(tokens=tmp_path / "t", name=name, replace=False, revoke=False))
        shown[name] = capsys.readouterr().out.strip()
    return Tokens(tmp_path / "t"), shown


def test_nobody_is_asked_for_by_an_open_server() -> None:
    assert answers(({}, ""), ({}, "some token")) == [{""}, {""}]


def test_tokens_at_once_are_told_apart(known: tuple[Tokens, dict[str, str]]) -> None:
    tokens, shown = known
    names = ["one", "two"] * 8
    found = answers(*(({}, shown[name]) for name in names), tokens=tokens)
    assert found == [{name} for name in names]


def test_a_certificate_names_its_client(pki: Path) -> None:
    names = ["lab", "other"]
    found = answers(*((client(pki, name), "") for name in names), credentials=mutual(pki))
    assert found == [{"lab"}, {"other"}]


def test_a_token_goes_before_a_certificate(pki: Path, known: tuple[Tokens, dict[str, str]]) -> None:
    tokens, shown = known
    call = client(pki, "lab"), shown["two"]
    assert answers(call, tokens=tokens, credentials=mutual(pki)) == [{"two"}]


def test_a_certificate_without_a_name_is_told_by_its_digest(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certs, "_named", lambda _: x509.Name([]))
    authority = certs._read_authority(pki)
    certs.sign(authority, "", 9).write(pki, "first")
    certs.sign(authority, "", 9).write(pki, "second")
    calls = [(client(pki, name), "") for name in ("first", "second", "first")]
    first, second, again = answers(*calls, credentials=mutual(pki))
    assert first == again != second
    (name,) = first
    assert name.startswith("sha256:") and len(name) == 7 + 2 * hashes.SHA256.digest_size


def test_a_wrong_token_is_refused_with_its_own_error(
    known: tuple[Tokens, dict[str, str]],
) -> None:
    for token in ("", "wrong"):
        with pytest.raises(grpc.RpcError) as raised:
            answers(({}, token), tokens=known[0])
        error = error_of(raised.value)
        assert (type(error), str(error)) == (AuthenticationError, REFUSAL)
