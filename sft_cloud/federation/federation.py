"""Leads one federation: gathers clients, has them work, averages, keeps what came of it.

It knows no models and no RPC: what clients are told are the small classes at its head.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sft_cloud.failures import as_sft_error
from sft_cloud.federation.keeping import Keeper, Progress
from sft_cloud.federation.members import Members, Seat
from sft_cloud.federation.record import RoundRecord
from sft_cloud.federation.round import Attempt, Round, Update, draw
from sft_cloud.federation.state import State
from sft_cloud.metrics import Traffic
from sft_cloud.scheduler import Scheduler
from sft_common.errors import ForbiddenError, RetryLaterError, SftError, TrainingError
from sft_common.federation.averaging import Weighted, average
from sft_common.federation.plan import FederationPlan
from sft_common.federation.tensors import (
    Shapes,
    check_all_finite,
    shapes_of,
    tensors_from_bytes,
    tensors_to_bytes,
)

log = logging.getLogger(__name__)

MAX_TRIES = 20
"""At one round: when all come to nothing, the next would too."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is to be done yet."""

    round: int
    present: int
    minimum: int


@dataclass(frozen=True, slots=True)
class Work:
    """Something is to be done."""

    attempt: Attempt
    duty: str
    evaluate: bool
    data: bytes
    """The average and the client's share of the cuts, as one file."""


@dataclass(frozen=True, slots=True)
class Over:
    """A try is over."""

    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The federation has ended."""

    data: bytes
    """The last average, as of `Work`; empty: the client had it just now."""


Said = Waiting | Work | Over | Ended


class Beginning(Protocol):
    """Where a federation starts from, and what its cuts need to know of the data first."""

    calibrations: tuple[str, ...]
    """Duties that come before the first round, in order."""

    def calibration_shapes(self, duty: str) -> Shapes:
        """Return what a calibration hands in."""

    def calibrated(self, duty: str, found: Mapping[str, Update], before: State) -> State:
        """Return the state once a calibration has come, by client, behind another."""

    def state(self) -> State:
        """Return the state before any calibration."""


class Federation:
    """One federation.

    Args:
        plan: what it is about.
        beginning: makes its first state.
        scheduler: for work that would hold up the event loop.
        traffic: counts its bytes.
        keeper: keeps its averages; None keeps none.
        net2_of: returns the net2 that a session of an owner has trained.
    """

    def __init__(
        self,
        plan: FederationPlan,
        beginning: Beginning,
        scheduler: Scheduler,
        traffic: Traffic,
        *,
        keeper: Keeper | None = None,
        net2_of: Callable[[str, str], Awaitable[dict[str, Tensor]]],
    ) -> None:
        self.plan, self.traffic = plan, traffic
        self._beginning, self._files, self._keeper = beginning, scheduler.files, keeper
        self._net2_of = net2_of
        self.members: Members[Said] = Members(plan.clients.patience_seconds, self._gone)
        self.progress = Progress(state=State(clients={}))
        self.round: Round | None = None
        self._moved = asyncio.Event()
        self._life = secrets.randbits(63)
        self.ended = False
        self.failure: SftError | None = None
        """What it stopped with."""

        self._work: dict[str, Work] = {}
        self._round_state = self.progress.state

    @property
    def shared(self) -> bool:
        """Whether clients take turns with one net2."""
        return self.plan.method == "splitfed-shared"

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
        if self.failure is not None:
            raise self.failure
        seat = self.members.sit(client, owner, incarnation)
        if self.ended:
            seat.say(self._end())
            seat.end()
            return seat
        work = self._work.get(client)
        if work is not None and self.round is not None and client in self.round.missing:
            if work.attempt != at:
                self._over(seat, at)
                seat.say(work)
        else:
            self._over(seat, at)
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
        tried = self._current(at)
        return self._expected(tried.duty) if tried.accept(client) else None

    async def hand_in(
        self,
        client: str,
        owner: str,
        incarnation: int,
        at: Attempt,
        update: Update,
        data: bytes,
        session_id: str,
    ) -> None:
        """Take what a client has done; done twice, it is done once.

        Args:
            client: its name.
            owner: who it is.
            incarnation: of its program.
            at: the try that it is for.
            update: without its tensors.
            data: those, as one file.
            session_id: whose net2 belongs to it, if any.

        Raises:
            ForbiddenError: it is late, or not for this client: nothing of it counts.
            TrainingError: a number is none: nothing of it counts.
            ProtocolError: it is not what was asked for.
        """
        expected = self.expects(client, owner, incarnation, at)
        if expected is None:
            return
        tried = self._current(at)
        what = f"the update of client {client}"
        tensors = await self._files(tensors_from_bytes, data, expected, what)
        cloud = {}
        if tried.duty == "train" and self.progress.state.cloud:
            net2 = await self._net2_of(session_id, owner)
            cloud = {name: net2[name] for name in self.progress.state.cloud}
        try:
            check_all_finite(tensors, what)
            check_all_finite(cloud, f"net2 of client {client}")
        except TrainingError as error:
            tried.lose(client, str(error))
            self._moved.set()
            raise
        self._current(at).take(client, dataclasses.replace(update, tensors=tensors, cloud=cloud))
        self._moved.set()

    def give_up(self, client: str, owner: str, incarnation: int, at: Attempt, reason: str) -> None:
        """Go on without a client that cannot do what was asked for; raises as `hand_in`."""
        if self.expects(client, owner, incarnation, at) is not None:
            self._current(at).lose(client, reason)
            self._moved.set()

    def net2_for(self, client: str, owner: str, incarnation: int, at: Attempt) -> dict[str, Tensor]:
        """Return the net2 that a client's session starts from.

        Raises:
            ForbiddenError: the client has nothing to train now.
        """
        self.members.check(client, owner, incarnation)
        tried = self._current(at)
        if client not in tried.missing:
            raise ForbiddenError(f"{at} is not for this client, or was handed in")
        return dict(self._round_state.cloud)

    @property
    def calibrates_tail(self) -> bool:
        """Whether clients are finding out what comes to the second cut."""
        return self.round is not None and self.round.duty == "calibrate-tail"

    def code_for(self, client: str, owner: str, incarnation: int) -> dict[str, Tensor]:
        """Return the cloud's share of the cuts, for the frozen body of a client's session.

        Raises:
            ForbiddenError: the client does not take part now.
        """
        self.members.check(client, owner, incarnation)
        if client not in self.members.present:
            raise ForbiddenError(f"client {client} does not take part in this federation now")
        return dict(self.progress.state.code)

    async def lead(self) -> None:
        """Lead it to its end."""
        try:
            await self._begin()
            while self.progress.done < self.plan.rounds:
                await self._train()
            await self._conclude()
        except Exception as error:
            self.failure = as_sft_error(error, f"federation {self.plan.name}")
            self.members.end(self.failure)

    def stop(self) -> None:
        """Tell all clients that the cloud is about to stop."""
        kept = "its last average is kept" if self._keeper else "nothing of it is kept"
        self.members.end(RetryLaterError(f"the cloud is stopping; of this federation {kept}"))

    async def _begin(self) -> None:
        """Take up what is kept, or begin anew."""
        known = await self._files(self._keeper.read) if self._keeper else None
        if known is not None:
            self.progress = known
            log.info("federation %s goes on behind round %d", self.plan.name, known.done)
        else:
            self.progress = Progress(state=await self._files(self._beginning.state))
        done = {record.duty for record in self.progress.records if record.counts}
        for duty in self._beginning.calibrations:
            if duty not in done:
                tried = await self._until_it_counts(0, duty)
                state = await self._files(
                    self._beginning.calibrated, duty, tried.updates, self.progress.state
                )
                await self._keep(state)

    async def _train(self) -> None:
        """Have one round trained, and average what comes."""
        tried = await self._until_it_counts(self.progress.done + 1, "train")
        state = await self._files(self._averaged, tried)
        await self._keep(state, rounds=1)
        record = self.progress.records[-1]
        log.info(
            "federation %s: round %d of %d, %d of %d clients, %d examples",
            self.plan.name,
            self.progress.done,
            self.plan.rounds,
            len(record.arrived),
            len(record.sampled),
            record.examples,
        )

    async def _conclude(self) -> None:
        """Have all who are there look at the last average, and let them go."""
        have = set[str]()
        if not any(record.duty == "evaluate" for record in self.progress.records):
            tried = await self._try(self.plan.rounds + 1, "evaluate", self.members.present)
            await self._keep(self.progress.state)
            have |= tried.updates.keys()
        self.ended = True
        for client in self.members.present:
            if (seat := self.members.seat(client)) is not None:
                seat.say(Ended(b"") if client in have else self._end())
                seat.end()
        log.info("federation %s has ended", self.plan.name)

    async def _until_it_counts(self, number: int, duty: str) -> Round:
        """Try a round until enough updates have come.

        Raises:
            TrainingError: they never do.
        """
        who = self.plan.clients
        for _ in range(MAX_TRIES):
            present = await self.members.at_least(who.minimum)
            attempt = self._next(number)
            # With calibrations or without, the rounds of a seed draw the same clients.
            before = sum(record.round == 0 for record in self.progress.records) if number else 0
            counted = attempt._replace(number=attempt.number - before)
            drawn = draw(present, who.per_round, seed=self.plan.seed, attempt=counted)
            tried = await self._try(number, duty, drawn)
            if len(tried.updates) >= who.quorum:
                return tried
            log.warning(
                "federation %s: %s came to nothing: %d updates, %d are needed: %s",
                self.plan.name,
                attempt,
                len(tried.updates),
                who.quorum,
                tried.lost,
            )
        raise TrainingError(f"round {number} came to nothing {MAX_TRIES} times; last: {tried.lost}")

    async def _try(self, number: int, duty: str, drawn: list[str]) -> Round:
        """Have some clients do their duty once; returns what came of it."""
        attempt = self._next(number)
        tried = self.round = Round(attempt, duty, drawn)
        self._round_state = self.progress.state
        began, received, sent = time.time(), self.traffic.received, self.traffic.sent
        every = self.plan.training.evaluate_every
        evaluate = duty == "evaluate" or (
            duty == "train" and bool(every) and number > 1 and (number - 1) % every == 0
        )
        work = Work(attempt, duty, evaluate, await self._files(self._data))
        turns = [[client] for client in drawn] if self.shared and duty == "train" else [drawn]
        for clients in turns:
            await self._turn(tried, clients, work)
            work = dataclasses.replace(work, evaluate=False)  # net2 is none of the average any more
        tried.close()
        self._work = {}
        counts = duty == "evaluate" or len(tried.updates) >= self.plan.clients.quorum
        record = RoundRecord.of(
            tried,
            began=began,
            ended=time.time(),
            counts=counts,
            received=self.traffic.received - received,
            sent=self.traffic.sent - sent,
        )
        self.progress = dataclasses.replace(
            self.progress,
            tries=attempt.number,
            records=(*self.progress.records, record),
        )
        return tried

    async def _turn(self, tried: Round, clients: list[str], work: Work) -> None:
        """Have some clients work at once, until all have or the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.plan.clients.round_seconds
        for client in clients:
            self._work[client] = work
            if client not in self.members.present:
                tried.lose(client, "the client has gone")
            elif (seat := self.members.seat(client)) is not None:
                seat.say(work)
        while any(client in tried.missing for client in clients):
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), end - loop.time())
            except TimeoutError:
                for client in clients:
                    tried.lose(client, "nothing came in time")
        for client in clients:
            seat = self.members.seat(client)
            if client in tried.lost and seat is not None:
                seat.say(Over(tried.attempt, tried.lost[client]))
            if self.shared and client in tried.updates:
                cloud = tried.updates[client].cloud
                self._round_state = dataclasses.replace(self._round_state, cloud=cloud)

    def _averaged(self, tried: Round) -> State:
        """Return the state after a round, clients in the order of their names."""
        updates = [tried.updates[client] for client in sorted(tried.updates)]
        state = self._round_state
        clients = average(Weighted(update.tensors, update.weight) for update in updates)
        cloud = state.cloud
        if cloud and not self.shared:
            cloud = average(Weighted(update.cloud, update.weight) for update in updates)
        return dataclasses.replace(state, clients=clients, cloud=cloud)

    async def _keep(self, state: State, rounds: int = 0) -> None:
        """Go on with a state, once it is on disk."""
        self.progress = dataclasses.replace(
            self.progress, state=state, done=self.progress.done + rounds
        )
        if self._keeper is not None:
            await self._files(self._keeper.write, self.progress)

    def _data(self) -> bytes:
        state = self.progress.state
        return tensors_to_bytes({**state.clients, **state.given})

    def _end(self) -> Ended:
        return Ended(self._data())

    def _expected(self, duty: str) -> Shapes:
        if duty == "train":
            return shapes_of(self.progress.state.clients)
        return {} if duty == "evaluate" else self._beginning.calibration_shapes(duty)

    def _current(self, at: Attempt) -> Round:
        """Return the try that goes on, if it is that one.

        Raises:
            ForbiddenError: it is over, or never was.
        """
        if self.round is None or self.round.attempt != at or self.round.closed:
            raise ForbiddenError(f"{at} is over")
        return self.round

    def _next(self, number: int) -> Attempt:
        return Attempt(number, self.progress.tries + 1, self._life)

    def _over(self, seat: Seat[Said], at: Attempt | None) -> None:
        if at is not None:
            seat.say(Over(at, "the cloud has gone on, or was started again"))

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

    def _gone(self, client: str) -> None:
        if self.round is not None:
            self.round.lose(client, "the client has gone")
            self._moved.set()
