"""How an edge is told to reach a cloud and to log in, and what it refuses to do."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from sft_cloud.certs import run_certs
from sft_common.errors import ConfigError
from sft_common.rpc.access import Access
from sft_edge.cli import parser
from sft_edge.login import VARIABLE, edge_access

FAR = "cloud.example:50051"


def access(*options: object, server: str = "localhost:50051") -> Access:
    return edge_access(parser().parse_args(["train", "--task", "demo", *map(str, options)]), server)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    to = tmp_path / "pki"
    run_certs(argparse.Namespace(to=to, host=["a.b"], client=["lab"], days=9, renew=False))
    return to


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("SECRET\n")
    return tmp_path / "token"


def test_without_options_there_is_no_tls_and_no_token() -> None:
    assert access() == Access(server="localhost:50051")


def test_all_of_it(pki: Path, token: Path) -> None:
    pair = "--tls-cert", pki / "lab.pem", "--tls-key", pki / "lab-key.pem"
    found = access("--tls-ca", pki / "ca.pem", *pair, "--token-file", token, server=FAR)
    assert found.tls and found.token == "SECRET"
    assert access("--tls", "--tls-name", "a.b").name == "a.b"


def test_a_token_file_goes_before_the_environment(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "OTHER")
    assert access("--token-file", token).token == "SECRET"
    assert access().token == "OTHER"
    monkeypatch.setenv(VARIABLE, "")
    assert access().token == ""


def test_a_token_does_not_leave_this_machine_in_the_clear(token: Path, pki: Path) -> None:
    options = ("--token-file", token)
    for server in (FAR, "10.0.0.1:1", "[::2]:1", "localhost.evil.example:1", "dns:///localhost:1"):
        with pytest.raises(ConfigError, match="the token would travel to .* give --tls-ca FILE"):
            access(*options, server=server)
    for server in ("localhost:1", "127.0.0.1:1", "[::1]:1"):
        assert access(*options, server=server).token
    assert access(*options, "--insecure", server=FAR).token
    assert access(*options, "--tls-ca", pki / "ca.pem", server=FAR).token
    assert not access(server=FAR).token


def test_an_access_does_not_show_its_token(token: Path) -> None:
    assert "SECRET" not in repr(access("--token-file", token))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (b"SECRET\nSECRET\n", "is not one token on one line"),
        (b"SECRET SECRET", "is not one token on one line"),
        (b"SECRET\x07", "is not one token on one line"),
        ("SECRÉT".encode(), "is not one token on one line"),
        ("SECRÉT".encode("latin-1"), "is no text"),
        (b"SECRET" * 1000, "is longer than 1024 characters"),
    ],
)
def test_a_file_that_holds_no_token_is_refused_and_not_shown(
    token: Path, text: bytes, message: str
) -> None:
    token.write_bytes(text)
    with pytest.raises(ConfigError, match=f"--token-file .*token: {message}") as raised:
        access("--token-file", token)
    assert "SECR" not in str(raised.value)


def test_white_space_and_a_byte_order_mark_do_no_harm(token: Path) -> None:
    token.write_bytes("\ufeffSECRET\r\n".encode())
    assert access("--token-file", token).token == "SECRET"


def test_the_environment_is_checked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "SECRET SECRET")
    with pytest.raises(ConfigError, match="^SFT_TOKEN: is not one token on one line"):
        access()


def test_options_that_make_no_sense_alone(pki: Path) -> None:
    for options, message in (
        (("--tls-cert", pki / "lab.pem"), "--tls-cert and --tls-key go together"),
        (("--tls", "--tls-key", pki / "lab-key.pem"), "--tls-cert and --tls-key go together"),
        (
            ("--tls-cert", pki / "lab.pem", "--tls-key", pki / "lab-key.pem"),
            "--tls-cert is of no use without TLS; give --tls-ca FILE too, or --tls",
        ),
        (("--tls", "--tls-name", ".a"), "--tls-name '.a': is neither a host's name nor address"),
        (("--tls", "--tls-name", "a..b"), "--tls-name 'a..b': is neither"),
        (("--tls", "--tls-name", "ü.b"), "--tls-name 'ü.b': is neither"),
        (("--tls-name", "a.b"), "--tls-name is of no use without TLS"),
    ):
        with pytest.raises(ConfigError, match=message):
            access(*options)


def test_a_file_that_is_not_what_it_should_be(pki: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    locked = tmp_path / "locked"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    trust = ("--tls-ca", pki / "ca.pem")
    for options, message in (
        (("--tls-ca", tmp_path / "no"), "--tls-ca .*no: No such file or directory"),
        (("--tls-ca", tmp_path), "--tls-ca .*: Is a directory"),
        (("--tls-ca", empty), "--tls-ca .*empty: holds no certificate in PEM"),
        (("--tls-ca", pki / "ca-key.pem"), "ca-key.pem: holds no certificate in PEM"),
        (
            (*trust, "--tls-cert", pki / "lab.pem", "--tls-key", pki / "ca-key.pem"),
            "ca-key.pem: is not the key of --tls-cert .*lab.pem",
        ),
        ((*trust, "--tls-cert", pki / "lab.pem", "--tls-key", locked), "locked: is encrypted"),
        ((*trust, "--tls-cert", empty, "--tls-key", empty), "are not a certificate and its key"),
        ((*trust, "--tls-cert", empty, "--tls-key", tmp_path / "no"), "--tls-key .*no: No such"),
    ):
        with pytest.raises(ConfigError, match=message):
            access(*options)
    with pytest.raises(ConfigError, match="--token-file .*no: No such file"):
        access("--token-file", tmp_path / "no")
