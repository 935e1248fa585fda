"""Tokens of edges: the file of their hashes, and whose a token is. It knows no gRPC.

A token is 256 random bits, so a plain SHA-256 tells nothing of it: nobody can guess what to hash.
A slow hash, as passwords need, would only make every call slower.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sft_common.errors import ConfigError
from sft_common.files import read_named, stamp_of, write_private

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_ENTRY = re.compile(r"(?P<name>\S+)\s+sha256:(?P<digest>[0-9a-fA-F]{64})")


class Entry(NamedTuple):
    """An edge that may come in."""

    name: str
    digest: bytes
    """SHA-256 of its token."""


class Tokens:
    """A file of tokens, read again when it changes; a broken change is logged and left out.

    Args:
        path: its lines are "NAME sha256:HEX", empty, or comments after a #.

    Raises:
        ConfigError: there is no such file, or a line is none of these.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = stamp_of(path)
        self._entries = read_tokens(path)

    def __len__(self) -> int:
        return len(self._entries)

    def name_of(self, token: str) -> str | None:
        """Return the edge whose token this is; None if it is nobody's.

        All entries are compared, each in constant time: how long it takes tells nothing.
        """
        self._read_again()
        digest, found = _digest(token), None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.name
        return found

    def _read_again(self) -> None:
        stamp = stamp_of(self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._entries = read_tokens(self._path)
        except ConfigError as error:
            log.error("%s; the tokens read before stay valid", error)
        else:
            log.info("--tokens %s: read again, %d tokens", self._path, len(self))


def read_tokens(path: Path) -> list[Entry]:
    """Return the entries of a file of tokens.

    Raises:
        ConfigError: names the line that is wrong, and never shows it.
    """
    entries: list[Entry] = []
    for number, line in enumerate(_lines(path), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _ENTRY.fullmatch(text)
        if match is None or not NAME.fullmatch(match["name"]):
            raise ConfigError(
                f"--tokens {path}: line {number} is not NAME sha256:HEX, as `sft-cloud token` "
                "writes it"
            )
        entry = Entry(match["name"], bytes.fromhex(match["digest"]))
        for other in entries:
            if entry.name == other.name or entry.digest == other.digest:
                raise ConfigError(
                    f"--tokens {path}: line {number} has the name or the token of a line before it"
                )
        entries.append(entry)
    return entries


def run_token(options: argparse.Namespace) -> None:
    """Make, replace or revoke a token with the options of `sft-cloud token`.

    A new token is printed once, and stored nowhere.

    Raises:
        ConfigError: the name is no name, is there already, or is not there to be revoked.
        OSError: the disk does not take the file.
    """
    path, name = Path(options.tokens).resolve(), check_name(options.name)
    with _alone(path.parent):
        lines = _lines(path) if path.exists() or options.revoke else []
        names = {entry.name for entry in read_tokens(path)} if lines else set()
        if options.revoke and name not in names:
            raise ConfigError(f"--tokens {path}: has no token of {name}")
        if name in names and not (options.replace or options.revoke):
            raise ConfigError(
                f"--tokens {path}: {name} has a token already; give --replace for a new one "
                "or --revoke"
            )
        kept = [line for line in lines if line.split()[:1] != [name]]
        token = secrets.token_urlsafe(32)
        if not options.revoke:
            kept.append(f"{name} sha256:{_digest(token).hex()}")
        write_private(path, "".join(f"{line}\n" for line in kept).encode())
    print(f"the token of {name} is revoked" if options.revoke else token)


def check_name(name: str) -> str:
    """Return the name of an edge, which is part of lines and of file names.

    Raises:
        ConfigError: it has other characters, or too many.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of an edge: up to 64 letters, digits, dots, hyphens and "
            "underscores, a letter or a digit first"
        )
    return name


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _lines(path: Path) -> list[str]:
    try:
        return read_named("--tokens", path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"--tokens {path}: is no text") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others who change files of a folder waiting: two new tokens at once are both kept."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"there is no folder {folder}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
