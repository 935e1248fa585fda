"""Sessions on disk: a record of each, its snapshots while it trains, its trained half at the end.

safetensors and JSON, never pickle; everything appears whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sft_common.config import ModelIdentity, OptimizerSpec, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, MismatchError, SessionLostError, first_line, printable
from sft_common.files import aside_of, remove_leftovers, written_aside
from sft_common.model.tensor_file import save_tensors
from sft_common.own_optimizer import own_optimizer_from_facts
from sft_common.snapshots import Snapshots

WEIGHTS = "cloud.safetensors"
RECORD = "session.json"
SNAPSHOTS = "snapshots"
STATES = "states"
PIECE_BYTES = 2**20

MAX_SHOWN = 400
"""Characters of a field in a message: an optimizer may name every parameter."""

SPEC_FIELDS = tuple(field.name for field in dataclasses.fields(SessionSpec))

SESSION_ID = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known of a session without its tensors."""

    session: str
    """Its name."""

    spec: SessionSpec
    """What the edge opened it with."""

    owner: str = ""
    """The identity that opened it; empty where nobody has to show one."""

    incarnation: int = 0
    """Of the program that is its edge (protos: Resume)."""

    finished: bool = False
    """Whether it was closed, and its trained half is kept."""

    steps: int = 0
    """Steps applied when it was closed."""


class Store:
    """A folder with one subfolder for each session.

    Raises:
        ConfigError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = folder / f".{time.time_ns()}.probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"cannot keep sessions in {folder}: {error.strerror}; give another --save-dir DIR, "
                "or --no-save to keep none"
            ) from error
        self.folder = folder
        self._forbidden: set[str] = set()
        self._making = threading.Lock()

    def note(self, record: Record) -> None:
        """Write what is known of a session.

        Raises:
            OSError: the disk is full or not writable, or the session was deleted.
        """
        folder = self.made(record.session)
        remove_leftovers(folder)
        facts = dataclasses.asdict(record)
        spec = facts.pop("spec")
        with written_aside(folder / RECORD) as aside:
            aside.write_text(json.dumps({**facts, **spec}, indent=2) + "\n", encoding="utf-8")

    def finish(self, record: Record, weights: dict[str, Tensor]) -> Path:
        """Write the trained net2 of a session, and delete its snapshots.

        Raises:
            OSError, SafetensorError: the disk is full or not writable; snapshots are left then.
        """
        folder = self.made(record.session)
        with written_aside(folder / WEIGHTS) as aside:
            save_tensors(aside, weights)
        self.note(record)
        self.drop_snapshots(record.session)
        return folder

    def record(self, session_id: str) -> Record:
        """Return what is known of a session; its name may come from a peer.

        Raises:
            SessionLostError: nothing is, or it cannot be read.
        """
        try:
            facts = json.loads((self.place(session_id) / RECORD).read_text("utf-8"))
            if facts["session"] != session_id:
                raise ValueError(f"its record is that of {facts['session']!r}")
            return _record(facts)
        except FileNotFoundError:
            raise unknown(session_id) from None
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise SessionLostError(
                f"cannot read session {session_id}: {first_line(error)}"
            ) from error

    def record_of(self, session_id: str, owner: str) -> Record:
        """Return what is known of a session; to all but its owner it does not exist.

        Raises:
            SessionLostError: nothing is.
        """
        record = self.record(session_id)
        if record.owner != owner:
            raise unknown(session_id)
        return record

    def snapshots(self, session_id: str) -> Snapshots:
        """Return the snapshots of a session, none if it has none."""
        return Snapshots(self.place(session_id) / SNAPSHOTS)

    def states(self, session_id: str) -> Snapshots:
        """Return the states of a session that its script asked for; they stay when it is closed."""
        return Snapshots(self.place(session_id) / STATES)

    def drop_snapshots(self, session_id: str) -> None:
        """Delete the snapshots of a session that needs them no more, as far as the disk lets go."""
        shutil.rmtree(self.place(session_id) / SNAPSHOTS, ignore_errors=True)

    def drop_states(self, session_id: str) -> None:
        """Delete the states of a session, as far as the disk lets go."""
        shutil.rmtree(self.place(session_id) / STATES, ignore_errors=True)

    def delete(self, session_id: str) -> None:
        """Delete all that is kept of a session, for good: nothing of it is written any more.

        Raises:
            OSError: the disk does not let go of it.
        """
        folder = self.place(session_id)
        if not folder.is_dir():
            return
        self.forbid(session_id)
        gone = aside_of(folder)  # all of it at once, whatever comes now
        folder.rename(gone)
        shutil.rmtree(gone)

    def names(self) -> list[str]:
        """Return the names of all sessions of which anything is kept, in order.

        Raises:
            OSError: the folder cannot be read.
        """
        return [name for name in sorted(os.listdir(self.folder)) if self.has(name)]

    def sweep(self) -> None:
        """Delete what a process that was killed left of sessions of which nothing is known."""
        remove_leftovers(self.folder)
        for name in self.names():
            if not (self.place(name) / RECORD).exists():
                shutil.rmtree(self.place(name), ignore_errors=True)

    def has(self, session_id: str) -> bool:
        """Return whether anything is kept of a session; its name may come from a peer."""
        return bool(SESSION_ID.fullmatch(session_id)) and (self.folder / session_id).is_dir()

    def forbid(self, session_id: str) -> None:
        """Have nothing of a session written from now on."""
        with self._making:
            self._forbidden.add(session_id)

    def made(self, session_id: str) -> Path:
        """Return the folder of a session, which is there then.

        Raises:
            OSError: the disk does not take it, or the session was deleted.
        """
        with self._making:
            if session_id in self._forbidden:
                raise OSError(f"session {session_id} was deleted")
            folder = self.place(session_id)
            folder.mkdir(exist_ok=True)
        return folder

    def load(self, session_id: str, spec: SessionSpec) -> dict[str, Tensor]:
        """Return the trained net2 of a finished session, by stock name.

        Args:
            session_id: as the edge gives it.
            spec: of the session that is to go on with it.

        Raises:
            ConfigError: there is no such session, or its files cannot be read.
            MismatchError: it was a session of another model, cut or head.
        """
        record = self.finished(session_id)
        check_same(session_id, record.spec, spec, ("model", "split", "head", "num_labels"))
        try:
            weights: dict[str, Tensor] = load_file(self.place(session_id) / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"cannot read session {session_id}: {first_line(error)}") from error
        return weights

    def pieces(self, session_id: str) -> Iterator[tuple[bytes, int]]:
        """Yield the file of a trained net2 in pieces, each with the size of the whole.

        Raises:
            ConfigError: there is no such session, or its file cannot be read.
        """
        self.finished(session_id)
        path = self.place(session_id) / WEIGHTS
        try:
            with open(path, "rb") as file:
                total = path.stat().st_size
                while piece := file.read(PIECE_BYTES):
                    yield piece, total
        except OSError as error:
            raise ConfigError(f"cannot read session {session_id}: {first_line(error)}") from error

    def place(self, session_id: str) -> Path:
        """Return the folder of a session; whatever the name says, it lies in the store's own.

        Raises:
            SessionLostError: no session has such a name.
        """
        if not SESSION_ID.fullmatch(session_id):
            raise SessionLostError(f"{session_id[:40]!r} is no name of a session")
        return self.folder / session_id

    def finished(self, session_id: str) -> Record:
        """Return the record of a finished session.

        Raises:
            ConfigError: there is none of that name.
        """
        try:
            record = self.record(session_id)
        except SessionLostError as error:
            raise ConfigError(f"{error}: one is kept once its training has ended") from error
        if not record.finished:
            raise ConfigError(f"session {session_id} is not trained yet: it still goes on")
        return record


def unknown(session_id: str) -> SessionLostError:
    """Return what is said of a session that is not there, and of another owner's alike."""
    return SessionLostError(f"this cloud has no session {printable(session_id[:40])}")


def check_same(
    session_id: str, there: SessionSpec, here: SessionSpec, fields: Iterable[str] = SPEC_FIELDS
) -> None:
    """Refuse a spec that differs from a session's in some fields.

    Raises:
        MismatchError: shows both values.
    """
    for field in fields:
        kept, asked = (dataclasses.asdict(spec)[field] for spec in (there, here))
        if field == "model":  # a folder may have been moved; its digests say what it is
            kept, asked = ({**model, "name": ""} for model in (kept, asked))
        if kept != asked:
            there_is, here_is = (f"{facts}"[:MAX_SHOWN] for facts in (kept, asked))
            raise MismatchError(
                f"session {session_id} has another {field}: {there_is} there, {here_is} asked"
            )


def _record(facts: dict[str, Any]) -> Record:
    """Return a record; what an older file leaves out was as it is by default."""
    own = facts.get("own_optimizer")
    spec = {
        **{name: facts[name] for name in SPEC_FIELDS if name in facts},
        "model": ModelIdentity(**facts["model"]),
        "split": SplitSpec(**facts["split"]),
        "optimizer": OptimizerSpec(**facts["optimizer"]),
        "own_optimizer": own_optimizer_from_facts(own) if own else None,
    }
    return Record(
        session=facts["session"],
        spec=SessionSpec(**spec),
        owner=facts.get("owner", ""),
        incarnation=facts.get("incarnation", 0),
        finished=facts.get("finished", True),
        steps=facts["steps"],
    )
