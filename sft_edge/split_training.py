"""A split training from its opening, or its last snapshot, to its end, through lost connections.

It goes back where the cloud has, begins anew where the cloud has lost everything, and leaves in
good order when somebody stops it.
"""

from __future__ import annotations

from typing import Any

import torch

from sft_common.commandline import Stopped
from sft_common.errors import (
    ForbiddenError,
    SessionLostError,
    SftError,
    SnapshotError,
    TrainingError,
    first_line,
)
from sft_common.model.heads import HEAD_TABLE
from sft_common.snapshots import step_name
from sft_edge.board import board_of
from sft_edge.client import GrpcSession
from sft_edge.defaults import MICRO_BATCHES
from sft_edge.job import Job
from sft_edge.keeping import Keeper
from sft_edge.learners import SplitLearner
from sft_edge.opening import open_session, take_up_session
from sft_edge.outcome import breakdown_of, outcome, seconds_of
from sft_edge.pacing import Pacing
from sft_edge.recorder import Recorder
from sft_edge.remote import Rewound
from sft_edge.run_files import EDGE_FILE
from sft_edge.screen import Screen, make_screen
from sft_edge.stopping import Interrupted, Stopper
from sft_edge.trained import job_facts
from sft_edge.trainer import Diverged, Evaluation, train


def train_split(job: Job) -> dict[str, Any]:
    """Train net1 here and net2 on the cloud; returns what metrics.json then holds.

    Raises:
        TrainingError: a loss was no number; says what was kept.
        Stopped: somebody stopped it; says how to go on.
        SftError: the cloud refused or was lost; says how to go on, if one can.
    """
    total = job.plan.total_steps(len(job.data.train))
    with Stopper() as stopper, make_screen("split", total, quiet=job.options.quiet) as screen:
        training = _SplitTraining(job, screen, stopper)
        try:
            return training.run()
        except Interrupted:
            raise Stopped(training.park()) from None
        except (ForbiddenError, TrainingError, SessionLostError):
            raise
        except SftError as error:
            if stopper.asked():
                raise Stopped(f"stopped: {error}{training.way_on()}") from None
            raise type(error)(f"{error}{training.way_on()}") from error
        finally:
            training.leave()


class _SplitTraining:
    """One training and its parts, which are made anew with each session.

    Args:
        job: what to train.
        screen: shows progress.
        stopper: says when to stop.
    """

    def __init__(self, job: Job, screen: Screen, stopper: Stopper) -> None:
        self._job, self._screen, self._stopper = job, screen, stopper
        self._session: GrpcSession | None = None
        self._learner: SplitLearner
        self._recorder: Recorder
        self._keeper: Keeper
        self._pacing: Pacing
        self._board = board_of(job.options, job.folder.path)
        self._total = job.plan.total_steps(len(job.data.train))

    def run(self) -> dict[str, Any]:
        """Train to the end, and write what came of it."""
        options = self._job.options
        if options.resume and (metrics := self._job.folder.metrics()) is not None:
            return self._close_again(metrics)
        done = self._take_up(options.session_id) if options.resume else self._begin()
        while True:
            try:
                evaluation = train(
                    self._learner,
                    self._job.data,
                    plan=self._job.plan,
                    metric=self._job.task.metric,
                    watcher=self._keeper,
                    done=done,
                )
                return self._finish(evaluation)
            except Rewound as rewound:
                done = self._go_back(rewound.step)
            except SessionLostError as lost:
                assert self._session is not None
                done = self._begin_anew(lost, self._session.session_id)
            except Diverged as diverged:
                raise TrainingError(f"{diverged}; {self._keep_diverged(diverged)}") from None

    def park(self) -> str:
        """Put the session away, and leave; returns what a person should know."""
        assert self._session is not None
        try:
            kept = self._session.park()
        except (SftError, Rewound) as error:
            return f"stopped; the cloud did not hear of it ({first_line(error)}){self.way_on()}"
        return f"stopped{self.way_on()}" if kept else "stopped; the cloud keeps nothing of it"

    def way_on(self) -> str:
        """Return how to go on later, to stand behind something else; empty if one cannot."""
        steps = self._job.folder.snapshots.steps()
        if not steps:
            return ""
        return (
            f"; go on behind step {steps[-1]} of {self._total} with: "
            f"sft-edge train --resume {self._job.folder.path}"
        )

    def leave(self) -> None:
        """Drop the connection, end the log, and drop a run that came to nothing."""
        if self._session is not None:
            self._session.abandon()
        if self._board is not None:
            self._board.close()
        self._job.folder.discard_if_empty()

    def _begin(self, replaces: str = "") -> int:
        """Open a session and begin with the first step; returns the steps that are done, 0.

        Args:
            replaces: a session of this training that comes to nothing.
        """
        folder = self._job.folder
        session = open_session(
            self._job, replaces=replaces, say=self._screen.say, stopped=self._stopper.asked
        )
        self._session = session
        folder.begin(self._job.options, session.session_id)
        torch.manual_seed(self._job.spec.seed)
        self._make_parts(session)
        self._screen.say(_headline(self._job, session, self._total))
        return 0

    def _begin_anew(self, lost: Exception, replaces: str) -> int:
        """Begin with the first step again: there is nothing from which both could go on."""
        self._screen.say(f"{lost}; beginning anew")
        self._drop_session()
        return self._begin(replaces)

    def _take_up(self, session_id: str) -> int:
        """Go on behind the newest snapshot that both sides have; returns its step."""
        while True:
            try:
                session = take_up_session(
                    self._job, session_id, say=self._screen.say, stopped=self._stopper.asked
                )
            except SessionLostError as lost:
                return self._begin_anew(lost, session_id)
            self._session = session
            self._make_parts(session)
            try:
                self._keeper.restore(session.rewound_to, elsewhere=True)
            except SnapshotError as damaged:
                self._forget(session.rewound_to, damaged)
            else:
                self._screen.say(_headline(self._job, session, self._total))
                self._screen.say(f"going on behind step {session.rewound_to}")
                return session.rewound_to

    def _go_back(self, step: int) -> int:
        """Go back to where the cloud is; returns the steps that are done."""
        assert self._session is not None
        self._screen.say(f"the cloud has gone back to step {step}: going on from there")
        try:
            self._keeper.restore(step, elsewhere=False)
        except SnapshotError as damaged:
            self._forget(step, damaged)
            return self._take_up(self._session.session_id)
        return step

    def _forget(self, step: int, damaged: SnapshotError) -> None:
        """Go on without a snapshot that cannot be read."""
        self._screen.say(f"{damaged}; trying the one before it")
        self._job.folder.snapshots.remove(step_name(step))
        self._drop_session()

    def _drop_session(self) -> None:
        """Leave a session to which this program does not come back with what it has in memory."""
        if self._session is not None:
            self._learner.settle()
            self._learner.close()
            self._session.abandon()
            self._session = None

    def _make_parts(self, session: GrpcSession) -> None:
        """Make what trains together with a session, from the beginning."""
        job, options = self._job, self._job.options
        self._pacing = Pacing(options.micro_batches or MICRO_BATCHES)
        self._learner = SplitLearner(
            job.net1,
            session,
            HEAD_TABLE[job.spec.head],
            job.spec.optimizer,
            job.device,
            pacing=self._pacing,
            keeps_labels=options.labels == "edge",
        )
        self._recorder = Recorder(
            job.folder,
            self._screen,
            session.traffic,
            variant="split",
            log_every=options.log_every,
            board=self._board,
        )
        self._keeper = Keeper(
            job.folder.snapshots,
            self._learner,
            self._recorder,
            session,
            self._pacing,
            every=options.snapshot_every,
            count=options.snapshots,
            total=self._total,
            stopped=self._stopper.asked,
            say=self._screen.say,
        )

    def _finish(self, evaluation: Evaluation) -> dict[str, Any]:
        """Write what came of it, and end the session."""
        assert self._session is not None
        job, session = self._job, self._session
        self._learner.settle()
        seconds = self._recorder.seconds
        facts = job_facts(job, session)
        job.folder.save_job(facts)
        job.folder.save_edge(dict(job.net1.skeleton.named_parameters()))
        spent = seconds_of(session.traffic, seconds)
        metrics = outcome(facts["known"], self._recorder, evaluation, session.traffic, spent)
        metrics["micro_batches"] = self._pacing.count if self._pacing.settled else None
        metrics["breakdown"] = breakdown_of(session.traffic, seconds)
        job.folder.save_metrics(metrics)
        metrics["cloud_saved"] = session.close().saved
        job.folder.save_metrics(metrics)
        job.folder.finish()
        return metrics

    def _close_again(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """End the session of a training that came to its end, but did not hear of the cloud's."""
        job = self._job
        try:
            self._session = take_up_session(
                job, job.options.session_id, say=self._screen.say, stopped=self._stopper.asked
            )
            metrics["cloud_saved"] = self._session.close().saved
        except SessionLostError as lost:
            self._screen.say(str(lost))
        job.folder.save_metrics(metrics)
        job.folder.finish()
        return metrics

    def _keep_diverged(self, diverged: Diverged) -> str:
        """Keep both halves as they were before the step that failed; returns where they are."""
        assert self._session is not None
        job, session = self._job, self._session
        if diverged.step == 1:
            return "nothing was trained before, so there is no snapshot"
        weights = dict(job.net1.skeleton.named_parameters())
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            return "there is no good snapshot: the weights of net1 are no numbers any more"
        job.folder.save_job(job_facts(job, session))
        job.folder.save_edge(weights)
        kept = _kept_there(session)
        job.folder.finish()
        return (
            f"the last good snapshot is of step {diverged.step - 1}: "
            f"{job.folder.path / EDGE_FILE} here, on the cloud {kept}"
        )


def _kept_there(session: GrpcSession) -> str:
    try:
        kept = session.close().saved
    except SftError as error:
        return f"none ({first_line(error)})"
    return f"session {session.session_id}" if kept else "none (it keeps none: --no-save?)"


def _headline(job: Job, session: GrpcSession, total: int) -> str:
    split = job.spec.split
    safety = "" if session.keeps_snapshots else "; the cloud keeps no snapshots"
    return (
        f"session {session.session_id} with {job.options.server} ({session.device}): "
        f"{job.source.name}, {split.cut} cut in block {split.split_layer} of {job.shape.blocks}, "
        f"{len(job.data.train)} examples, {total} steps{safety}"
    )
