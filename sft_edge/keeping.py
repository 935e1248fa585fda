"""Snapshots of the edge's half: taken behind the same steps as the cloud's, and gone back to.

The edge writes first and asks the cloud then, so that every snapshot of the cloud has its twin
here. The newest that the cloud is known to have is never deleted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from sft_common.errors import SnapshotError
from sft_common.snapshots import Snapshot, Snapshots, step_name
from sft_edge.learners import SplitLearner
from sft_edge.pacing import Pacing
from sft_edge.recorder import Recorder
from sft_edge.stopping import Interrupted
from sft_edge.tasks.batches import Batch
from sft_edge.traffic import Traffic
from sft_edge.trainer import Evaluation


class KeepingSession(Protocol):
    """What a keeper needs of a session with a cloud."""

    traffic: Traffic
    kept: int
    """The step of the cloud's newest snapshot; 0: none."""

    @property
    def keeps_snapshots(self) -> bool:
        """Whether the cloud writes any."""

    def keep(self, step: int) -> None:
        """Have the cloud write a snapshot behind the last step; does not wait."""


class Keeper:
    """A `Watcher` that hands on what it is told, and takes snapshots between steps.

    Args:
        snapshots: where they are.
        learner: what they are of.
        recorder: is told first; its counters and history go along.
        session: the cloud half.
        pacing: goes along too.
        every: steps between two snapshots; 0: none but where the training is stopped.
        count: snapshots that stay.
        total: steps of the training; behind the last there is one as well.
        stopped: whether somebody wants the training to stop.
        say: tells a person.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        learner: SplitLearner,
        recorder: Recorder,
        session: KeepingSession,
        pacing: Pacing,
        *,
        every: int,
        count: int,
        total: int,
        stopped: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._snapshots = snapshots
        self._learner, self._recorder = learner, recorder
        self._session, self._pacing = session, pacing
        self._every, self._count, self._total = every, count, total
        self._stopped, self._say = stopped, say
        self._step = 0

    def stepped(
        self, step: int, epoch: int, batches: Sequence[Batch], loss: float, rate: float
    ) -> None:
        """Hand on, and take a snapshot if it is time."""
        self._recorder.stepped(step, epoch, batches, loss, rate)
        self._step = step
        due = self._every and (step % self._every == 0 or step == self._total)
        if due or self._stopped():
            self._keep()
        self._check_stopped()

    def evaluating(self, batch: Batch, verdict: Tensor) -> None:
        """Hand on."""
        if self._stopped() and self._step not in self._snapshots.steps():
            self._keep()
        self._check_stopped()
        self._recorder.evaluating(batch, verdict)

    def evaluated(self, step: int, epoch: int, evaluation: Evaluation) -> None:
        """Hand on."""
        self._recorder.evaluated(step, epoch, evaluation)

    def restore(self, step: int, *, elsewhere: bool) -> None:
        """Go back behind a step.

        Args:
            step: a snapshot of it is there; those of later steps are deleted.
            elsewhere: whether another program took it, whose traffic counts too.

        Raises:
            SnapshotError: it cannot be read.
        """
        facts = self._read(step)
        self._pacing.restore(facts["pacing"])
        if elsewhere:
            for name, value in facts["traffic"].items():
                setattr(self._session.traffic, name, getattr(self._session.traffic, name) + value)
        self._recorder.restore(facts["recorder"])
        self._step = step
        for later in self._snapshots.steps():
            if later > step:
                self._snapshots.remove(step_name(later))

    def _read(self, step: int) -> dict[str, Any]:
        snapshot = self._snapshots.read(step_name(step))
        try:
            self._learner.restore(snapshot.tensors)
        except (KeyError, RuntimeError) as error:
            raise SnapshotError(
                f"the snapshot of step {step} is of another training: {error}"
            ) from error
        return snapshot.facts

    def _keep(self) -> None:
        """Take a snapshot here, then there; a disk that does not take it costs only that.

        Without one there, one here would be of no use.
        """
        if not self._session.keeps_snapshots:
            return
        facts = {
            "step": self._step,
            "recorder": self._recorder.state(),
            "traffic": dataclasses.asdict(self._session.traffic),
            "pacing": self._pacing.state(),
        }
        try:
            self._snapshots.write(step_name(self._step), Snapshot(facts, self._learner.state()))
            self._clear()
        except SnapshotError as error:
            self._say(f"{error}; training goes on without it")
            return
        self._session.keep(self._step)

    def _clear(self) -> None:
        steps = self._snapshots.steps()
        for step in steps[: -self._count]:
            if step < self._session.kept:
                self._snapshots.remove(step_name(step))

    def _check_stopped(self) -> None:
        if self._stopped():
            raise Interrupted(self._step)
