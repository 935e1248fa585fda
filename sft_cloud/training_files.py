"""A training over stored examples on disk: what it is over, how far it has come, what came of it.

It begins with the last file that `begin` writes and has ended with the first that `end` deletes;
what lies between goes on in the next process. All of it runs on threads for files.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from sft_cloud.cache import ActivationCache
from sft_cloud.session import Session
from sft_cloud.store import Record, Store
from sft_cloud.story import Event, Finished, Size, as_tensors, of_tensors
from sft_common.errors import (
    CapacityError,
    ConfigError,
    LimitError,
    ProtocolError,
    SessionLostError,
    SftError,
    SnapshotError,
    TrainingError,
    first_line,
)
from sft_common.plan import Plan
from sft_common.snapshots import Snapshot, Snapshots, step_name

log = logging.getLogger(__name__)

EXAMPLES, TRAINING = "examples.bin", "training"
BEGUN, TOLD = "begun", "told"

FINAL = {kind.__name__: kind for kind in (TrainingError, LimitError, ProtocolError)}
"""What a training ends with that would end so again, by name."""

_STORY = "story"


@dataclass(frozen=True, slots=True)
class Begun:
    """What a training is over."""

    plan: Plan
    size: Size
    index: Snapshot
    """Of its examples."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a training has come."""

    snapshot: Snapshot
    """Of its session."""

    events: list[Event]
    """That have happened until then."""

    seconds: float
    """That the device has worked on it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a training that has ended came to."""

    size: Size
    events: list[Event]

    error: SftError | None
    """None: it came to its end, which is the last event."""


class TrainingFiles:
    """The files of one training, in the folder of its session.

    Args:
        store: where sessions are kept.
        session_id: whose training it is.

    Raises:
        SessionLostError: no session has such a name.
    """

    def __init__(self, store: Store, session_id: str) -> None:
        self._store, self._name = store, session_id
        folder = store.place(session_id)
        self.examples = folder / EXAMPLES
        self._marks = Snapshots(folder / TRAINING)
        self._snapshots = store.snapshots(session_id)

    @property
    def has_begun(self) -> bool:
        """Whether the training has begun, and not ended."""
        return BEGUN in self._marks.names()

    @property
    def has_failed(self) -> bool:
        """Whether the training came to an end that is no good one, and would again."""
        return TOLD in self._marks.names() and "error" in self._marks.facts(TOLD)

    @property
    def has_told(self) -> bool:
        """Whether the end of the training is known."""
        return TOLD in self._marks.names() and not self.has_begun

    def begin(
        self, record: Record, plan: Plan, size: Size, cache: ActivationCache, session: Session
    ) -> None:
        """Write all that the training needs to go on without this process.

        Raises:
            CapacityError: the disk does not take it; the training has not begun then.
        """
        try:
            self._store.made(self._name)
            index = cache.sealed()
            self._snapshots.write(step_name(session.applied), _reached(session, (), 0.0))
            facts = {
                "plan": dataclasses.asdict(plan),
                "size": size._asdict(),
                "examples": index.facts,
            }
            self._marks.write(BEGUN, Snapshot(facts, index.tensors))
            self._store.note(record)
        except (OSError, SnapshotError) as error:
            shutil.rmtree(self._store.place(self._name), ignore_errors=True)
            raise _not_taken(error) from error

    def begun(self) -> Begun:
        """Return what the training is over.

        Raises:
            SnapshotError: that cannot be read.
        """
        mark = self._marks.read(BEGUN)
        try:
            index = Snapshot(mark.facts["examples"], mark.tensors)
            return Begun(Plan(**mark.facts["plan"]), Size(**mark.facts["size"]), index)
        except (KeyError, TypeError, ConfigError) as error:
            raise _not_one(error) from error

    def keep(self, session: Session, events: Sequence[Event], seconds: float, count: int) -> None:
        """Write a snapshot of the session and its story; nobody may work on it meanwhile.

        Args:
            session: behind a step.
            events: that have happened until now.
            seconds: that the device has worked on it.
            count: snapshots that stay.

        Raises:
            SnapshotError: the disk does not take it; those before it stay.
        """
        if session.applied in self._snapshots.steps():
            return  # it lacks at most a part of an evaluation
        self._check_wanted()
        self._snapshots.write(step_name(session.applied), _reached(session, events, seconds))
        self._snapshots.remove_older(count)

    def reached(self) -> Reached:
        """Return how far the training has come, by the newest snapshot that is not damaged.

        Those that are damaged are deleted.

        Raises:
            SnapshotError: none of them can be read.
        """
        for step in reversed(self._snapshots.steps()):
            try:
                snapshot = self._snapshots.read(step_name(step))
                events = of_tensors(snapshot.tensors[_STORY])
                return Reached(snapshot, events, snapshot.facts[_STORY])
            except (SnapshotError, KeyError, TypeError, ValueError, RuntimeError) as error:
                log.warning("session %s: %s", self._name, first_line(error))
                self._snapshots.remove(step_name(step))
        raise SnapshotError(f"session {self._name} has no snapshot that can be read")

    def tell(self, size: Size, events: Sequence[Event], end: Finished | SftError) -> None:
        """Write the whole story, and how it ends.

        Raises:
            CapacityError: the disk does not take it.
        """
        how = (
            {"finished": dataclasses.asdict(end)}
            if isinstance(end, Finished)
            else {"error": str(end), "kind": type(end).__name__}
        )
        told = Snapshot({"size": size._asdict(), **how}, {_STORY: as_tensors(events)})
        try:
            self._check_wanted()
            self._marks.write(TOLD, told)
        except SnapshotError as error:
            raise _not_taken(error) from error

    def told(self) -> Told:
        """Return what `tell` wrote.

        Raises:
            SnapshotError: it cannot be read.
        """
        told = self._marks.read(TOLD)
        try:
            size, events = Size(**told.facts["size"]), of_tensors(told.tensors[_STORY])
            if "error" in told.facts:
                kind = FINAL.get(told.facts["kind"], TrainingError)
                return Told(size, events, kind(told.facts["error"]))
            return Told(size, [*events, Finished(**told.facts["finished"])], None)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise _not_one(error) from error

    def end(self) -> None:
        """Delete what only a training that goes on needs; a trained half and the story stay.

        Raises:
            OSError, SnapshotError: the disk does not let go of it.
        """
        self._marks.remove(BEGUN)
        self.examples.unlink(missing_ok=True)
        self._store.drop_snapshots(self._name)

    def clear(self) -> None:
        """Delete what is left of a training that has not begun, or has ended."""
        self.examples.unlink(missing_ok=True)
        shutil.rmtree(self._store.place(self._name) / TRAINING / BEGUN, ignore_errors=True)

    def _check_wanted(self) -> None:
        """Write nothing of a session that was deleted.

        Raises:
            SnapshotError: it was.
        """
        try:
            self._store.made(self._name)
        except OSError as error:
            raise SnapshotError(str(error)) from error


def unfinished(store: Store) -> list[tuple[Record, Begun]]:
    """Return the trainings that another process has begun and not ended.

    What it left of others is deleted; what cannot be read is left alone.
    """
    found = []
    for name in store.names():
        files = TrainingFiles(store, name)
        try:
            if not files.has_begun:
                files.clear()
                continue
            record = store.record(name)
            if record.finished or files.has_failed:
                files.end()
            else:
                found.append((record, files.begun()))
        except (OSError, SessionLostError, SnapshotError) as error:
            log.error("the training of session %s does not go on: %s", name, first_line(error))
    return found


def _reached(session: Session, events: Sequence[Event], seconds: float) -> Snapshot:
    snapshot = session.snapshot()
    return Snapshot(
        {**snapshot.facts, _STORY: seconds},
        {**snapshot.tensors, _STORY: as_tensors(events)},
    )


def _not_one(error: Exception) -> SnapshotError:
    return SnapshotError(f"the files of a training are not as they should be: {first_line(error)}")


def _not_taken(error: OSError | SnapshotError) -> CapacityError:
    cause = error if isinstance(error, OSError) else error.__cause__ or error
    reason = cause.strerror if isinstance(cause, OSError) else None
    return CapacityError(
        f"the cloud's disk does not take the training: {reason or first_line(cause)}"
    )
