"""What a save folder holds, session by session; no tensor is read. It knows no running host.

A folder belongs to one running cloud: whoever works on it holds its lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sft_cloud.store import WEIGHTS, Record, Store
from sft_cloud.training_files import BEGUN, TOLD, TRAINING
from sft_common.errors import ConfigError, SessionLostError

log = logging.getLogger(__name__)


State = Literal["parked", "training", "finished", "failed", "damaged"]
"""Of a session on disk (docs/operations.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A session on disk."""

    session: str
    """Its name."""

    record: Record | None
    """What is known of it; None: that cannot be read."""

    state: State

    snapshots: tuple[str, ...]
    """Names of its snapshots, and of the states that its script asked for."""

    size_bytes: int
    """Of all its files."""

    touched: float
    """When something of it was written last, in seconds since 1970."""

    @property
    def steps(self) -> int:
        """Steps applied, as far as the disk tells."""
        if self.state == "finished" and self.record is not None:
            return self.record.steps
        digits = (name.partition("-")[2].partition("-")[0] for name in self.snapshots)
        return max((int(step) for step in digits if step.isdecimal()), default=0)


def kept_sessions(store: Store) -> Iterator[Kept]:
    """Yield all sessions on disk in the order of their names; one that goes meanwhile is left out.

    Raises:
        OSError: the folder cannot be read.
    """
    for name in store.names():
        try:
            yield _kept(store, name)
        except FileNotFoundError:
            continue


def states_on_disk(store: Store) -> Iterator[tuple[str, State]]:
    """Yield name and state of all sessions on disk, as far as no file need be opened for it."""
    for name in store.names():
        folder = store.place(name)
        yield name, _state(folder, finished=(folder / WEIGHTS).exists())


@contextmanager
def alone_with(folder: Path) -> Iterator[None]:
    """Hold the lock of a save folder during the block; it goes with the process, however that ends.

    Raises:
        ConfigError: another program holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another sft-cloud works on --save-dir {folder}; stop it, or give another folder"
            ) from None
        except OSError as error:  # some network file systems have no locks
            log.warning("--save-dir %s cannot be locked: %s", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)


def _state(folder: Path, *, finished: bool) -> State:
    if finished:
        return "finished"
    if (folder / TRAINING / BEGUN).exists():
        return "training"
    return "failed" if (folder / TRAINING / TOLD).exists() else "parked"


def _kept(store: Store, name: str) -> Kept:
    folder = store.folder / name
    try:
        record = store.record(name)
    except SessionLostError:
        record = None
    stats = [path.lstat() for path in folder.rglob("*")]
    return Kept(
        session=name,
        record=record,
        state=_state(folder, finished=record.finished) if record else "damaged",
        snapshots=(*store.snapshots(name).names(), *store.states(name).names()),
        size_bytes=sum(stat.st_size for stat in stats),
        touched=max([folder.lstat().st_mtime, *(stat.st_mtime for stat in stats)]),
    )
