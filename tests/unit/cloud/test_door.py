"""What `serve` is told about who may come in: what goes together, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sft_cloud.cli import parser
from sft_cloud.door import Door, open_door
from sft_common.errors import ConfigError
from sft_common.rpc.access import is_loopback


def door(*options: object) -> Door:
    return open_door(parser().parse_args(["serve", *map(str, options)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines in, and data would"),
        (["--host", "::"], "give --tls-cert and --tls-key"),
        (["--host", "cloud.example"], "or --insecure if you trust the network"),
        (["--host", "0.0.0.0", "--tokens", "f"], "tokens and data would travel in the clear"),
        (["--tls-cert", "f"], "--tls-cert and --tls-key go together"),
        (["--tls-key", "f"], "--tls-cert and --tls-key go together"),
        (["--client-ca", "f"], "--client-ca needs TLS"),
        (["--insecure", "--tls-cert", "f", "--tls-key", "f"], "--insecure means no TLS"),
        (["--tokens", "/no/such"], "--tokens /no/such: No such file"),
    ],
)
def test_what_does_not_go_together_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        door(*options)


def test_what_is_asked_is_said() -> None:
    assert door().described == "this machine only; --host 0.0.0.0 and TLS let others in"
    assert door("--host", "0.0.0.0", "--insecure").described == "no TLS, no login"


def test_a_cloud_without_tls_needs_no_package_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "sft_cloud.tls", raising=False)
    tokens = tmp_path / "tokens"
    tokens.touch()
    assert door("--tokens", tokens).credentials is None
    with pytest.raises(ConfigError, match="TLS needs the package cryptography; install the extra"):
        door("--tls-cert", tokens, "--tls-key", tokens)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True)),
        *(("0.0.0.0", False), ("::", False), ("", False), ("localhost.evil.example", False)),
        *(("127.0.0.1.evil.example", False), ("10.0.0.1", False), ("ipv4:127.0.0.1", False)),
    ],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) == local
