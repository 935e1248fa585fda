"""Where the admin socket of a cloud is, and what makes it the owner's alone. No messages."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sft_common.errors import ConfigError

log = logging.getLogger(__name__)

NAME = ".admin.sock"

MAX_PATH_BYTES = 107
"""The kernel keeps the path of a socket in 108 bytes, the last of which is zero."""

NONE = "none"
"""As --admin-socket: there is none."""


def socket_path(option: str | None, save_dir: Path | None) -> Path | None:
    """Return where the socket is, out of --admin-socket and --save-dir; None for none."""
    if option == NONE:
        return None
    if option:
        return Path(option).absolute()
    return save_dir.absolute() / NAME if save_dir else None


def fits(path: Path) -> bool:
    """Return whether the kernel takes a path as that of a socket."""
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def target_of(path: Path) -> str:
    """Return a socket's path as gRPC wants it, which reads it like an address of the web."""
    return f"unix:{quote(os.fsencode(path))}"


def check_place(path: Path) -> None:
    """Refuse a place where no socket can be made.

    A socket that a killed cloud left is no hindrance: gRPC replaces it.

    Raises:
        ConfigError: there is no such folder, or something else is there.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"--admin-socket {path}: there is no folder {path.parent}")
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"--admin-socket {path}: there is something else; choose another path")


def warn_of_others(folder: Path) -> None:
    """Tell if other users could put a socket of their own in place of one in this folder."""
    mode = folder.stat().st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        log.warning("other users may write into %s: `chmod go-w` it, or they can delete", folder)


def check_own(path: Path) -> None:
    """Refuse a socket that is another user's: who knows who listens there.

    Raises:
        ConfigError: it is.
    """
    owner = path.lstat().st_uid
    if os.geteuid() not in (owner, 0):
        raise ConfigError(f"{path} belongs to user {owner}; run this as the user of the cloud")


@contextmanager
def private_files() -> Iterator[None]:
    """Have files that are made during the block be the owner's alone from the first moment on."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
