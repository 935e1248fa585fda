"""Why a cloud is not reached over TLS: each reason has its own words, against real handshakes."""

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

from sft_cloud import certs
from sft_cloud.certs import run_certs
from sft_common.rpc.access import Access
from sft_common.rpc.trouble import Trouble, trouble_with


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    to = tmp_path / "pki"
    run_certs(argparse.Namespace(to=to, host=["a.b"], client=["lab"], days=9, renew=False))
    return to


@contextmanager
def server(certificate: Path) -> Iterator[str]:
    """Shake hands once with whoever comes, and say nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name(f"{certificate.stem}-key.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_shake, args=(listener, context))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def _shake(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            return


def trouble(certificate: Path, roots: Path, name: str = "") -> Trouble:
    with server(certificate) as address:
        return trouble_with(Access(server=address, tls=True, roots=roots, name=name))


def test_a_certificate_of_another_name(pki: Path) -> None:
    found = trouble(pki / "server.pem", pki / "ca.pem", "c.d")
    assert found.why == "its certificate is not for c.d"
    assert "--tls-name" in found.advice


def test_a_certificate_of_another_authority(pki: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run_certs(argparse.Namespace(to=other, host=["a.b"], client=[], days=9, renew=False))
    found = trouble(pki / "server.pem", other / "ca.pem")
    assert found.why.startswith(f"its certificate is not to be trusted by {other / 'ca.pem'}: ")
    assert found.advice == "give the file of its own authority as --tls-ca"


def test_a_certificate_of_a_client(pki: Path) -> None:
    assert trouble(pki / "lab.pem", pki / "ca.pem").why == "its certificate is not a server's"


@pytest.mark.parametrize(("days", "why"), [(-30, "expired"), (30, "not yet valid")])
def test_a_certificate_of_another_time(
    pki: Path, monkeypatch: pytest.MonkeyPatch, days: int, why: str
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, zone: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(days=days)

    monkeypatch.setattr(certs, "datetime", Clock)
    authority = certs._read_authority(pki)
    certs.sign(authority, "sft-cloud", 9, [certs._general_name("127.0.0.1")]).write(pki, "server")
    found = trouble(pki / "server.pem", pki / "ca.pem")
    assert why in found.why
    assert "clock" in found.advice


def test_a_name_that_no_resolver_takes() -> None:
    found = trouble_with(Access(server=f"{'x' * 70}.y:1"))
    assert found.why.endswith("is no name of a host")


def test_nobody_and_somebody_mute() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        for tls in (False, True):
            access = Access(server=address, tls=tls, connect_seconds=1)
            assert "does not speak gRPC" in trouble_with(access).why
    found = trouble_with(Access(server=address))
    assert found == Trouble("Connection refused", "is `sft-cloud serve` running there?")
