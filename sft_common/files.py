"""Files that appear whole or not at all. Standard library only."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft_common.errors import ConfigError, first_line

_PARTIAL = ".partial"


def check_new(target: Path) -> None:
    """Refuse a folder that is to be made, as --to names it, if it cannot be.

    Raises:
        ConfigError: it is there already, or the folder it would lie in is not.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already; choose another --to")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"--to {target}: there is no folder {target.absolute().parent}")


def read_named(option: str, path: Path) -> bytes:
    """Return what a file holds that an option names.

    Raises:
        ConfigError: it is not to be read; says why.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror or first_line(error)}") from error


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Return numbers that change when a file does; None if it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@contextmanager
def written_aside(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` to write a file or a folder to; it becomes `final` at the end.

    What was written is flushed to disk and renamed. If the block fails, it is removed and a former
    `final` is left as it was.
    """
    aside = aside_of(final)
    try:
        yield aside
        _flush_all(aside)
        aside.rename(final)
    except BaseException:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)
        raise
    _flush(final.parent)


def replace_folder(final: Path, write: Callable[[Path], None]) -> None:
    """Write a folder in place of a former one, which stays until the new one is on the disk.

    Args:
        final: the folder.
        write: writes a new, empty one; if it fails, or the disk does, the former one stays.
    """
    fresh, former = aside_of(final), aside_of(final.with_name(f"{final.name}.former"))
    try:
        fresh.mkdir()
        write(fresh)
        _flush_all(fresh)
        if final.exists():
            final.rename(former)
        fresh.rename(final)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if former.exists() and not final.exists():
            former.rename(final)
        raise
    shutil.rmtree(former, ignore_errors=True)
    _flush(final.parent)


def aside_of(final: Path) -> Path:
    """Return where a file or folder is while it is not whole; `remove_leftovers` finds it there."""
    return final.with_name(f".{final.name}.{os.getpid()}{_PARTIAL}")


def remove_leftovers(folder: Path) -> None:
    """Delete what a process that was killed had begun to write into a folder, its own alone."""
    for path in folder.glob(f".*{_PARTIAL}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def save_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a file that people read too; it appears whole, in place of a former one."""
    with written_aside(path) as aside:
        text = json.dumps(facts, indent=2, allow_nan=False)
        aside.write_text(text + "\n", encoding="utf-8")


def append_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Add a line to a file that grows."""
    line = json.dumps(facts, allow_nan=False) + "\n"
    with open(path, "a", encoding="utf-8") as file:
        file.write(line)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; it appears whole, in place of a former one."""
    with written_aside(path) as aside:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)


def _flush_all(path: Path) -> None:
    """Flush a file, or a folder with all that is in it."""
    for each in [*path.rglob("*"), path] if path.is_dir() else [path]:
        _flush(each)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
