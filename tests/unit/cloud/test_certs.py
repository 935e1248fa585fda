"""`sft-cloud certs`: what it makes is what others, too, take for certificates."""

from __future__ import annotations

import argparse
import shlex
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from sft_cloud.certs import run_certs
from sft_common.errors import ConfigError


def make(folder: Path, **how: Any) -> None:
    usual = {"to": folder, "host": [], "client": [], "days": 365, "renew": False}
    run_certs(argparse.Namespace(**usual | how))


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "pki", host=["cloud.example", "10.0.0.5", "*.lab.example"], client=["lab"])
    return tmp_path / "pki"


def test_openssl_takes_them_for_what_they_are_for(folder: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command on this machine")
    for name, purpose, good in (
        ("server", "sslserver", True),
        ("lab", "sslclient", True),
        ("server", "sslclient", False),
        ("lab", "sslserver", False),
    ):
        line = ["openssl", "verify", "-x509_strict", "-purpose", purpose]
        line += ["-CAfile", str(folder / "ca.pem"), str(folder / f"{name}.pem")]
        done = subprocess.run(line, capture_output=True, text=True)
        assert (done.returncode == 0) == good, done


def test_the_files_and_their_modes(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    names = {"ca", "server", "lab"}
    assert set(modes) == {f"{name}.pem" for name in names} | {f"{name}-key.pem" for name in names}
    assert {modes[f"{name}-key.pem"] for name in names} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_server_is_known_by_all_its_names_and_here(folder: Path) -> None:
    names = read(folder / "server.pem").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == [
        *("cloud.example", "*.lab.example", "localhost"),
    ]
    addresses = map(str, names.value.get_values_for_type(x509.IPAddress))
    assert list(addresses) == ["10.0.0.5", "127.0.0.1", "::1"]


def test_a_client_is_known_by_its_common_name(folder: Path) -> None:
    (name,) = read(folder / "lab.pem").subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "lab"


def test_a_client_is_added_by_the_same_authority(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    make(folder, client=["second"], days=7)
    second = read(folder / "second.pem")
    second.verify_directly_issued_by(read(folder / "ca.pem"))
    assert second.not_valid_after_utc - datetime.now(UTC) < timedelta(days=7)
    assert all(path.read_bytes() == text for path, text in before.items())


def test_nothing_is_overwritten_unless_asked(folder: Path) -> None:
    before = (folder / "lab.pem").read_bytes(), (folder / "server.pem").read_bytes()
    for what in ({"client": ["new", "lab"]}, {"host": ["other.example"]}):
        with pytest.raises(ConfigError, match="is there already; give --renew"):
            make(folder, **what)
    assert not (folder / "new.pem").exists()
    make(folder, client=["lab"], host=["other.example"], renew=True)
    assert (folder / "lab.pem").read_bytes() != before[0]
    assert (folder / "server.pem").read_bytes() != before[1]
    read(folder / "server.pem").verify_directly_issued_by(read(folder / "ca.pem"))


def test_what_it_prints_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sft_cloud.cli import parser as cloud
    from sft_edge.cli import parser as edge

    make(tmp_path / "my pki", host=["cloud.example"], client=["lab"])
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    for program, parser in (("sft-cloud", cloud()), ("sft-edge", edge())):
        (words,) = [words for words in lines if program in words]
        options = parser.parse_args(words[words.index(program) + 1 :])
        assert options.tls_cert.is_file() and options.tls_key.is_file()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "a new folder needs --host NAME"),
        ({"client": ["lab"]}, "a new folder needs --host NAME"),
        ({"host": ["a b"]}, "'a b': is neither a host's name nor an address"),
        ({"host": ["ü.example"]}, "is neither a host's name"),
        ({"host": ["a"], "client": ["ca"]}, "--client ca: would be mistaken"),
        ({"host": ["a"], "client": ["x-key"]}, "--client x-key: would be mistaken"),
        ({"host": ["a"], "client": ["../x"]}, "is no name of an edge"),
    ],
)
def test_wrong_names_are_refused_and_leave_nothing(
    tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(tmp_path / "pki", **how)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_others_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="ca.pem: No such file"):
        make(tmp_path / "mine", client=["a"])
    with pytest.raises(ConfigError, match="say what to add"):
        make(folder)
    with pytest.raises(ConfigError, match="there is no folder"):
        make(tmp_path / "no" / "pki", host=["a"])
    shutil.copy(folder / "lab-key.pem", folder / "ca-key.pem")
    with pytest.raises(ConfigError, match="ca-key.pem there is not the key of ca.pem"):
        make(folder, client=["a"])
    (folder / "ca-key.pem").write_text("broken")
    with pytest.raises(ConfigError, match="is broken"):
        make(folder, client=["a"])
