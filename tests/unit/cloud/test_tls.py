"""A server's certificate and key: what is wrong with them is said, and later left out."""

from __future__ import annotations

import argparse
import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from sft_cloud import certs
from sft_cloud.certs import run_certs
from sft_cloud.tls import ServerFiles, read_files
from sft_common.errors import ConfigError


def make(folder: Path, days: int = 365) -> Path:
    run_certs(argparse.Namespace(to=folder, host=["a.b"], client=["lab"], days=days, renew=False))
    return folder


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make(tmp_path / "pki")


def read(pki: Path, **other: Path) -> None:
    usual = {"certificate": pki / "server.pem", "key": pki / "server-key.pem"}
    read_files(**(usual | other))


def test_what_certs_makes_is_good(pki: Path) -> None:
    read(pki, client_ca=pki / "ca.pem")


def test_what_is_wrong_with_a_file_is_said(pki: Path, tmp_path: Path) -> None:
    key = load_pem_private_key((pki / "server-key.pem").read_bytes(), None)
    locked = tmp_path / "locked"
    secret = BestAvailableEncryption(b"word")
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    empty = tmp_path / "empty"
    empty.touch()
    for other, message in (
        ({"certificate": tmp_path / "no"}, "--tls-cert .*no: No such file or directory"),
        ({"certificate": tmp_path}, "--tls-cert .*: Is a directory"),
        ({"certificate": empty}, "--tls-cert .*empty: holds no certificate in PEM"),
        ({"certificate": pki / "server-key.pem"}, "holds no certificate in PEM"),
        ({"certificate": pki / "lab.pem"}, "lab.pem: is a client's certificate, not a server's"),
        ({"key": tmp_path / "no"}, "--tls-key .*no: No such file or directory"),
        ({"key": empty}, "--tls-key .*empty: holds no private key in PEM"),
        ({"key": pki / "server.pem"}, "--tls-key .*server.pem: holds no private key in PEM"),
        ({"key": pki / "ca-key.pem"}, "ca-key.pem: is not the key of --tls-cert .*server.pem"),
        ({"key": locked}, "--tls-key .*locked: is encrypted; write it without a passphrase"),
        ({"client_ca": empty}, "--client-ca .*empty: holds no certificate in PEM"),
        ({"client_ca": tmp_path / "no"}, "--client-ca .*no: No such file or directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(pki, **other)


@pytest.mark.parametrize("days", [-400, 400])
def test_a_certificate_of_another_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, zone: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(days=days)

    monkeypatch.setattr(certs, "datetime", Clock)
    with pytest.raises(ConfigError, match="server.pem: is good from 20.* now is 20"):
        read(make(tmp_path / "pki"))


def test_an_end_that_is_near_and_a_key_for_all_to_read_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pki = make(tmp_path / "pki", days=20)
    (pki / "server-key.pem").chmod(0o644)
    ServerFiles(pki / "server.pem", pki / "server-key.pem")
    near, open_key = (record.getMessage() for record in caplog.records)
    assert "server.pem: expires on 20" in near
    assert "server-key.pem: others on this machine can read it; chmod 600" in open_key


def test_good_files_are_warned_of_by_nothing(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServerFiles(pki / "server.pem", pki / "server-key.pem")
    assert not caplog.records


def test_changed_files_are_taken_when_they_fit(
    pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = make(tmp_path / "other")
    files = ServerFiles(pki / "server.pem", pki / "server-key.pem", pki / "ca.pem")
    assert files._changed() is None and not caplog.records
    shutil.copy(other / "server.pem", pki)
    assert [files._changed() for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "is not the key of" in record.getMessage()
    shutil.copy(other / "server-key.pem", pki)
    assert files._changed() is not None
    assert files._changed() is None
    assert "TLS goes on with changed files" in caplog.records[-1].getMessage()
    (pki / "ca.pem").unlink()
    assert files._changed() is None
    assert "--client-ca" in caplog.records[-1].getMessage()
