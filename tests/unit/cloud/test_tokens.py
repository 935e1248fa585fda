"""The file of tokens: what it may hold, how it changes, and what it never shows."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from sft_cloud import tokens as under_test
from sft_cloud.tokens import Tokens, read_tokens, run_token
from sft_common.errors import ConfigError


def line(name: str, token: str) -> str:
    return f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"


def change(path: Path, name: str, **how: bool) -> None:
    usual = {"replace": False, "revoke": False}
    run_token(argparse.Namespace(tokens=path, name=name, **usual | how))


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """A file of one token, and the token."""
    change(tmp_path / "tokens", "lab")
    return tmp_path / "tokens", capsys.readouterr().out.strip()


def test_a_new_token_is_known_and_only_its_hash_is_kept(made: tuple[Path, str]) -> None:
    path, token = made
    assert len(token) >= 43
    assert Tokens(path).name_of(token) == "lab"
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["tokens"]


@pytest.mark.parametrize("wrong", ["", " ", "x", "lab", "é", "\udcff", "x" * 10**6, "\0"])
def test_other_words_are_nobodys(made: tuple[Path, str], wrong: str) -> None:
    path, token = made
    known = Tokens(path)
    assert known.name_of(wrong) is None
    assert known.name_of(token + wrong) == ("lab" if not wrong else None)


def test_all_entries_are_compared_in_constant_time(
    made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, token = made
    for name in ("a", "b", "c"):
        change(path, name)
    compared = []
    monkeypatch.setattr(
        under_test.hmac, "compare_digest", lambda a, b: compared.append(a) or a == b
    )
    known = Tokens(path)
    assert known.name_of(token) == "lab"
    assert known.name_of("wrong") is None
    assert len(compared) == 8


def test_a_token_is_replaced_and_revoked(
    made: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, token = made
    with pytest.raises(ConfigError, match="lab has a token already; give --replace"):
        change(path, "lab")
    known = Tokens(path)
    assert known.name_of(token) == "lab"
    change(path, "lab", replace=True)
    second = capsys.readouterr().out.strip()
    assert (known.name_of(token), known.name_of(second)) == (None, "lab")
    change(path, "lab", revoke=True)
    assert capsys.readouterr().out == "the token of lab is revoked\n"
    assert known.name_of(second) is None and not len(known)
    with pytest.raises(ConfigError, match="has no token of lab"):
        change(path, "lab", revoke=True)


def test_comments_and_other_lines_stay(made: tuple[Path, str]) -> None:
    path, token = made
    path.write_text("# who is who\n\n" + path.read_text() + line("b", "t") + "# the end\n")
    change(path, "b", revoke=True)
    assert path.read_text().splitlines()[:2] == ["# who is who", ""]
    assert path.read_text().endswith("# the end\n")
    assert Tokens(path).name_of(token) == "lab"


def test_a_link_stays_a_link(made: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = made
    link = tmp_path / "link"
    link.symlink_to(path)
    change(link, "b")
    assert link.is_symlink()
    assert [entry.name for entry in read_tokens(path)] == ["lab", "b"]


def test_many_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    threads = [threading.Thread(target=change, args=(path, f"edge{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.name for entry in read_tokens(path)) == [f"edge{n}" for n in range(8)]


@pytest.mark.parametrize("name", ["", "a b", "-a", ".a", "a#", "ä", "a\n", "x" * 65, "a/b"])
def test_a_name_is_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of an edge"):
        change(tmp_path / "tokens", name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\r\n", "\ufeff"])
def test_a_file_may_be_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_text(text, encoding="utf-8", newline="")
    assert len(Tokens(tmp_path / "tokens")) == 0


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    text = (
        "\ufeff" + line("a", "1").replace("\n", "\r\n") + line("b", "2").replace("\n", "  # x\r\n")
    )
    (tmp_path / "tokens").write_text(text, encoding="utf-8", newline="")
    known = Tokens(tmp_path / "tokens")
    assert (known.name_of("1"), known.name_of("2")) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("lab\n", 1),
        (line("a", "1") + "b sha256:SECRET\n", 2),
        ("a sha1:" + "0" * 64, 1),
        ("SECRET\n", 1),
        (line("a", "1").strip() + "0\n", 1),
        ("\n" + line("a b", "1"), 2),
        (line("a", "1") + line("a", "2"), 2),
        (line("a", "1") + line("b", "1"), 2),
    ],
)
def test_a_broken_line_is_named_and_not_shown(tmp_path: Path, text: str, number: int) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigError, match=f"tokens: line {number} ") as raised:
        Tokens(tmp_path / "tokens")
    assert "SECRET" not in str(raised.value)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path, text in (
        (tmp_path / "absent", "absent: No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "binary", "binary: is no text"),
    ):
        with pytest.raises(ConfigError, match=text):
            Tokens(path)
    with pytest.raises(ConfigError, match="there is no folder"):
        change(tmp_path / "no" / "tokens", "a")


def test_a_change_that_breaks_the_file_is_logged_once_and_left_out(
    made: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    path, token = made
    known, good = Tokens(path), path.read_text()
    for break_it in (lambda: path.write_text("broken"), path.unlink):
        caplog.clear()
        break_it()
        assert [known.name_of(token) for _ in range(3)] == ["lab"] * 3
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage().endswith("the tokens read before stay valid")
    path.write_text(good + line("b", "2"))
    assert known.name_of("2") == "b"


def test_a_file_of_the_same_size_and_time_is_noticed(made: tuple[Path, str]) -> None:
    path, token = made
    known, stamp = Tokens(path), path.stat().st_mtime_ns
    change(path, "lab", replace=True)
    os.utime(path, ns=(stamp, stamp))
    assert known.name_of(token) is None
