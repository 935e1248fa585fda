"""Until when certificates are good, against real handshakes."""

from __future__ import annotations

import argparse
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sft_cloud.certs import run_certs
from sft_common.errors import ConfigError
from sft_common.rpc.access import Access
from sft_edge.doctor import certificates
from sft_edge.doctor.certificates import check_client_certificate, check_tls
from sft_edge.doctor.finding import Finding, Verdict


def made(to: Path, days: int) -> Path:
    run_certs(argparse.Namespace(to=to, host=["a.b"], client=["lab"], days=days, renew=False))
    return to


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return made(tmp_path / "pki", 300)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Shake hands with whoever comes, until the block ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_shake, args=(listener, context))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _shake(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                continue


def looked_at(folder: Path, roots: Path, name: str = "") -> Finding:
    with server(folder) as address:
        return check_tls(
            Access(server=address, tls=True, roots=roots, name=name, connect_seconds=5)
        )


def at(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, zone: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(days=days)

    monkeypatch.setattr(certificates, "datetime", Clock)


def test_a_good_certificate(pki: Path) -> None:
    finding = looked_at(pki, pki / "ca.pem", "a.b")
    assert finding.verdict is Verdict.OK
    assert finding.found.startswith("TLSv1.3, the cloud's certificate for a.b")
    assert "(299 days)" in finding.found


def test_one_that_ends_soon(tmp_path: Path) -> None:
    short = made(tmp_path / "short", 9)
    finding = looked_at(short, short / "ca.pem")
    assert finding.verdict is Verdict.WARNING
    assert "(8 days)" in finding.found and "--renew" in finding.advice


def test_an_authority_that_ends_soon(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = certificates.check_dates

    def only_authority(check: str, whose: str, certificate: object, renew: str) -> Finding:
        at(monkeypatch, 365 * 10 - 20 if whose.endswith("its authority") else 0)
        return real(check, whose, certificate, renew)  # type: ignore[arg-type]

    monkeypatch.setattr(certificates, "check_dates", only_authority)
    finding = looked_at(pki, pki / "ca.pem")
    assert finding.verdict is not Verdict.OK
    assert "its authority" in finding.found and "new authority" in finding.advice


@pytest.mark.parametrize(("name", "words"), [("c.d", "its certificate is not for c.d")])
def test_another_name(pki: Path, name: str, words: str) -> None:
    finding = looked_at(pki, pki / "ca.pem", name)
    assert finding.verdict is Verdict.WRONG and finding.found == words
    assert "--tls-name" in finding.advice


def test_another_authority(pki: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other", 300)
    finding = looked_at(pki, other / "ca.pem")
    assert finding.verdict is Verdict.WRONG and "is not to be trusted by" in finding.found


def test_without_tls_it_matters_how_far_one_goes() -> None:
    assert check_tls(Access(server="localhost:1")).verdict is Verdict.OK
    finding = check_tls(Access(server="cloud.example:1"))
    assert finding.verdict is Verdict.WARNING
    assert "can be read and changed" in finding.found and "--tls-ca FILE" in finding.advice


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [
        (0, Verdict.OK, "(299 days)"),
        (290, Verdict.WARNING, "(9 days)"),
        (400, Verdict.WRONG, "expired on"),
        (-30, Verdict.WRONG, "good from"),
    ],
)
def test_a_clients_certificate(
    pki: Path, monkeypatch: pytest.MonkeyPatch, days: int, verdict: Verdict, words: str
) -> None:
    at(monkeypatch, days)
    finding = check_client_certificate(pki / "lab.pem")
    assert finding.verdict is verdict and words in finding.found
    assert f"{pki / 'lab.pem'} for lab" in finding.found


def test_what_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "lab.pem").write_text("none")
    with pytest.raises(ConfigError, match="holds no certificate in PEM"):
        check_client_certificate(tmp_path / "lab.pem")
