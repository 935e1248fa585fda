"""One federation as its clients meet it: they attend, hand in, give up, open sessions.

It knows no models and no RPC. How it goes on from round to round is course.py's.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor

from sft_cloud.federation.course import Course
from sft_cloud.federation.members import Seat
from sft_cloud.federation.round import Update
from sft_cloud.federation.spool import Spooled, spooled
from sft_cloud.federation.trial import Trial
from sft_common.errors import ForbiddenError, SessionLostError, TrainingError
from sft_common.federation.said import Attempt, Over, Said, Waiting
from sft_common.federation.tensors import Shapes, check_all_finite, shapes_of, tensors_from_bytes


class Federation(Course):
    """A federation that clients take part in; made as any course."""

    def attend(self, client: str, owner: str, incarnation: int, at: Attempt | None) -> Seat[Said]:
        """Give a client its seat, and tell it where the federation is.

        Args:
            client: its name.
            owner: who it is.
            incarnation: of its program.
            at: what it is working on; None: nothing.

        Raises:
            ForbiddenError: the name is another edge's.
            SftError: what the federation stopped with.
        """
        self._check_goes_on()
        seat = self.members.sit(client, owner, incarnation)
        if self.ended:
            seat.say(self._last)
            seat.end()
            return seat
        work = self._trial.work_of(client) if self._trial is not None else None
        if work is not None and work.attempt == at:
            return seat
        if at is not None:
            seat.say(Over(at, "the cloud has gone on, or was started again"))
        if work is not None:
            seat.say(work)
        else:
            self._tell_waiting(seat)
        return seat

    def leave(self, seat: Seat[Said]) -> None:
        """Take note that a client's stream has ended."""
        self.members.leave(seat)

    def expects(self, client: str, owner: str, incarnation: int, at: Attempt) -> Shapes | None:
        """Return the tensors that a client is to hand in; None if they are there already.

        Raises:
            ForbiddenError: nothing of it counts; says why.
        """
        self.members.check(client, owner, incarnation)
        if self._counted(client, at):
            return None
        tried = self._current(at).round
        return self._expected(tried.duty) if tried.accept(client) else None

    def spooled(self) -> Spooled:
        """Return a file for an update on its way in; raises as it does."""
        return Spooled(self._folder)

    async def hand_in(
        self,
        client: str,
        owner: str,
        incarnation: int,
        at: Attempt,
        update: Update,
        file: Spooled | None,
        session_id: str,
    ) -> None:
        """Take what a client has done; done twice, it is done once.

        Args:
            client: its name.
            owner: who it is.
            incarnation: of its program.
            at: the try that it is for.
            update: without its tensors.
            file: of those; None: none came.
            session_id: whose net2 belongs to it, if any.

        Raises:
            ForbiddenError: it is late, or not for this client: nothing of it counts.
            TrainingError: a number is none: nothing of it counts.
            SessionLostError: the session is not the one that this client trained in this try.
            ProtocolError: it is not what was asked for.
            RetryLaterError: the disk does not take it, or does not give it back.
        """
        expected = self.expects(client, owner, incarnation, at)
        if expected is None:
            return
        trial = self._current(at)
        train = trial.round.duty == "train"
        try:
            tensors = await self.files(_finite, file, expected, f"the update of client {client}")
            cloud = await self._net2(client, owner, at, session_id) if train else {}
        except (TrainingError, SessionLostError) as error:
            outcome = "not_finite" if isinstance(error, TrainingError) else "gave_up"
            trial.lose(client, str(error), outcome)
            raise
        self._current(at).take(client, dataclasses.replace(update, tensors=tensors, cloud=cloud))

    def give_up(self, client: str, owner: str, incarnation: int, at: Attempt, reason: str) -> None:
        """Go on without a client that cannot do what was asked for; raises as `hand_in`."""
        if self.expects(client, owner, incarnation, at) is not None:
            self._current(at).lose(client, reason)

    def net2_for(self, client: str, owner: str, incarnation: int, at: Attempt) -> dict[str, Tensor]:
        """Return the net2 that a client's session starts from.

        Raises:
            ForbiddenError: the client has nothing to train now.
        """
        self.members.check(client, owner, incarnation)
        trial = self._current(at)
        if not trial.round.accept(client):
            raise ForbiddenError(f"{at} was handed in by this client")
        return dict(trial.cloud)

    def code_for(self, client: str, owner: str, incarnation: int) -> dict[str, Tensor]:
        """Return the cloud's share of the cuts, for the frozen body of a client's session.

        Raises:
            ForbiddenError: the client does not take part now.
        """
        self.members.check(client, owner, incarnation)
        if client not in self.members.present:
            raise ForbiddenError(f"client {client} does not take part in this federation now")
        return dict(self.progress.state.code)

    def _expected(self, duty: str) -> Shapes:
        if duty == "train":
            return shapes_of(self.progress.state.clients)
        return {} if duty == "evaluate" else self._beginning.calibration_shapes(duty)

    def _current(self, at: Attempt) -> Trial:
        """Return the try that goes on, if it is that one.

        Raises:
            ForbiddenError: it is over, or never was.
            SftError: what the federation stopped with.
        """
        self._check_goes_on()
        tried = self.round
        if tried is None or tried.attempt != at or tried.closed:
            raise ForbiddenError(f"{at} is over")
        assert self._trial is not None
        return self._trial

    def _counted(self, client: str, at: Attempt) -> bool:
        """Return whether an update was taken, in a try that is over by now."""
        for record in reversed(self.progress.records):
            if record.number <= at.number:
                same = (record.number, self._life) == (at.number, at.life)
                return same and client in record.arrived
        return False

    async def _net2(
        self, client: str, owner: str, at: Attempt, session_id: str
    ) -> dict[str, Tensor]:
        """Return what a client has trained on the cloud in a try; nothing where it is not to."""
        wanted = self.progress.state.cloud
        if not wanted:
            return {}
        seed = self.plan.seed_of(at.round, at.number, client)
        net2 = await self._net2_of(session_id, owner, seed)
        cloud = {name: net2[name] for name in wanted}
        await self.files(check_all_finite, cloud, f"net2 of client {client}")
        return await self.files(spooled, self._folder, cloud)

    def _tell_waiting(self, seat: Seat[Said]) -> None:
        """Tell one who has come how many are there; all others too while they are too few."""
        present, minimum = self.members.present, self.plan.clients.minimum
        waiting = Waiting(self.progress.done + 1, len(present), minimum)
        seat.say(waiting)
        if len(present) <= minimum:
            for client in present:
                other = self.members.seat(client)
                if other is not None and other is not seat:
                    other.say(waiting)


def _finite(file: Spooled | None, expected: Shapes, what: str) -> dict[str, Tensor]:
    """Return the tensors of a file; raises as `Spooled.tensors` and `check_all_finite`."""
    tensors = file.tensors(expected, what) if file else tensors_from_bytes(b"", expected, what)
    check_all_finite(tensors, what)
    return tensors
