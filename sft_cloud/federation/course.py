"""The rounds of one federation: gathers clients, has them work, averages, keeps what came of it.

It knows no models and no RPC, and nothing of how clients come and hand in (federation.py).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from torch import Tensor

from sft_cloud.failures import as_sft_error
from sft_cloud.federation.keeping import Keeper, Progress
from sft_cloud.federation.members import Members
from sft_cloud.federation.record import RoundRecord, last_measured, measured
from sft_cloud.federation.reporting import Page, measured_words
from sft_cloud.federation.round import GONE, Round, draw
from sft_cloud.federation.start import Beginning
from sft_cloud.federation.state import State
from sft_cloud.federation.trial import Trial
from sft_cloud.logs import About, set_about
from sft_cloud.metrics import Traffic
from sft_cloud.scheduler import Scheduler
from sft_common.errors import RetryLaterError, SftError, TrainingError
from sft_common.federation.averaging import Weighted, average
from sft_common.federation.plan import FederationPlan
from sft_common.federation.said import Attempt, Ended, Said, Work
from sft_common.federation.tensors import check_all_finite, tensors_to_bytes

log = logging.getLogger(__name__)

TRIED = ("counted", "came_to_nothing")
"""What comes of a try."""

MAX_TRIES = 20
"""At one round: when all come to nothing, the next would too."""


class Course:
    """All rounds of a federation.

    Args:
        plan: what it is about.
        beginning: makes its first state.
        scheduler: for work that would hold up the event loop.
        traffic: counts its bytes.
        keeper: keeps its averages; None keeps none.
        net2_of: returns the net2 that a session has trained, of an owner and opened with a seed.
    """

    def __init__(
        self,
        plan: FederationPlan,
        beginning: Beginning,
        scheduler: Scheduler,
        traffic: Traffic,
        *,
        keeper: Keeper | None = None,
        net2_of: Callable[[str, str, int], Awaitable[dict[str, Tensor]]],
    ) -> None:
        self.plan, self.traffic = plan, traffic
        self._beginning, self._keeper, self._net2_of = beginning, keeper, net2_of
        self._folder = keeper.folder if keeper else None
        self.files = scheduler.files
        """Runs what would hold up the event loop."""

        self.members: Members[Said] = Members(plan.clients.patience_seconds, self._gone)
        self.progress = Progress(state=State(clients={}))
        self._trial: Trial | None = None
        self._page = Page(keeper.folder, plan) if keeper else None
        self.round_began = 0.0
        """When `round` did, in seconds since 1970."""

        self.waits = False
        """Whether fewer clients are there than a round needs."""

        self.tried: Counter[str] = Counter()
        """Tries at rounds and calibrations, by what came of them, one of `TRIED`."""

        self.handed_in: Counter[str] = Counter()
        """What became of what clients were to hand in for these, one of `OUTCOMES`."""

        self._life = secrets.randbits(63)
        self.ended = False
        self.failure: SftError | None = None
        """What it stopped with."""

        self._stopping: RetryLaterError | None = None
        self._last = Ended(b"")

    @property
    def round(self) -> Round | None:
        """The latest try at a round; None before the first."""
        return self._trial.round if self._trial is not None else None

    @property
    def shared(self) -> bool:
        """Whether clients take turns with one net2."""
        return self.plan.method == "splitfed-shared"

    async def lead(self) -> None:
        """Lead it to its end."""
        set_about(About(federation=self.plan.name))
        try:
            await self._begin()
            while self.progress.done < self.plan.rounds:
                await self._train()
            await self._conclude()
        except Exception as error:
            self.failure = as_sft_error(error, f"federation {self.plan.name}")
            self.members.end(self.failure)
            await self._report()
            self._say_end("has stopped")

    def stop(self) -> None:
        """Tell all clients that the cloud is about to stop."""
        kept = "its last average is kept" if self._keeper else "nothing of it is kept"
        self._stopping = RetryLaterError(f"the cloud is stopping; of this federation {kept}")
        self.members.end(self._stopping)

    def _check_goes_on(self) -> None:
        if (reason := self.failure or self._stopping) is not None:
            raise reason

    async def _begin(self) -> None:
        """Take up what is kept, or begin anew."""
        known = await self.files(self._keeper.read) if self._keeper else None
        if known is not None:
            self.progress = known
            log.info("federation %s goes on behind round %d", self.plan.name, known.done)
        else:
            self.progress = Progress(state=await self.files(self._beginning.state))
        done = {record.duty for record in self.progress.records if record.counts}
        for duty in self._beginning.calibrations:
            if duty not in done:
                tried = await self._until_it_counts(0, duty)
                state = await self.files(self._calibrated, tried)
                await self.files(tried.forget)
                await self._keep(state)

    async def _train(self) -> None:
        """Have one round trained, and average what comes."""
        tried = await self._until_it_counts(self.progress.done + 1, "train")
        state = await self.files(self._averaged, tried)
        await self.files(tried.forget)  # before an average asks for room on the same disk
        await self._keep(state, rounds=1)
        record, plan = self.progress.records[-1], self.plan
        log.info(
            "federation %s: round %d of %d, %d of %d clients, %d examples%s",
            *(plan.name, self.progress.done, plan.rounds),
            *(len(record.arrived), len(record.sampled), record.examples),
            measured_words(measured(record)),
        )

    async def _conclude(self) -> None:
        """Have all who are there look at the last average, and let them go."""
        have, records, keeper = set[str](), self.progress.records, self._keeper
        looked = bool(records) and records[-1].duty == "evaluate"
        if keeper is not None:
            await self.files(keeper.save_model, self.progress, self._beginning.save)
        if not looked:
            number = self.progress.done + 1
            tried = await self._try(number, "evaluate", await self._returned())
            await self._keep(self.progress.state)
            have |= tried.updates.keys()
        else:
            await self._report()
        self._last = Ended(await self.files(self._data))
        self.ended = True
        for client in self.members.present:
            if (seat := self.members.seat(client)) is not None:
                seat.say(Ended(b"") if client in have else self._last)
                seat.end()
        self._say_end("has ended")

    async def _returned(self) -> list[str]:
        """Return who is there; after a restart those whom a round needs have a while to return."""
        who = self.plan.clients
        if self._trial is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(who.patience_seconds):
                    await self.members.at_least(who.minimum, lambda there: None)
        return self.members.present

    async def _until_it_counts(self, number: int, duty: str) -> Round:
        """Try a round until enough updates have come.

        Raises:
            TrainingError: they never do.
        """
        who = self.plan.clients
        for _ in range(MAX_TRIES):
            present = await self.members.at_least(who.minimum, self._wait)
            self.waits = False
            attempt = self._next(number)
            # The rounds of a seed draw the same clients, whatever was done between them.
            between = sum(record.duty != "train" for record in self.progress.records)
            before = between if number else 0
            counted = attempt._replace(number=attempt.number - before)
            drawn = draw(present, who.per_round, seed=self.plan.seed, attempt=counted)
            tried = await self._try(number, duty, drawn)
            if len(tried.updates) >= who.quorum:
                return tried
            log.warning(
                "federation %s: %s came to nothing: %d updates, %d are needed: %s",
                *(self.plan.name, attempt, len(tried.updates), who.quorum, tried.losses),
            )
            await self._report()
        raise TrainingError(
            f"round {number} came to nothing {MAX_TRIES} times; last: {tried.losses}"
        )

    def _wait(self, there: int) -> None:
        """Take note that too few clients are there."""
        self.waits = True
        log.info(
            "federation %s waits for clients: %d of at least %d are there",
            *(self.plan.name, there, self.plan.clients.minimum),
        )

    async def _try(self, number: int, duty: str, drawn: list[str]) -> Round:
        """Have some clients do their duty once; returns what came of it."""
        attempt, state = self._next(number), self.progress.state
        self.round_began = time.time()
        received, sent = self.traffic.received, self.traffic.sent
        evaluate = duty == "evaluate" or (duty == "train" and self._looks_at(number))
        trial = Trial(
            tried := Round(attempt, duty, drawn),
            self.members,
            Work(attempt, duty, evaluate, await self.files(self._data)),
            cloud=state.cloud,
            seconds=self.plan.clients.round_seconds,
            shared=self.shared and duty == "train",
        )
        self._trial = trial
        await trial.run()
        self._note(tried, self.traffic.received - received, self.traffic.sent - sent)
        return tried

    def _note(self, tried: Round, received: int, sent: int) -> None:
        """Put a try that is over into the history, with the bytes that moved while it went on."""
        looked = tried.duty == "evaluate"
        counts = looked or len(tried.updates) >= self.plan.clients.quorum
        record = RoundRecord.of(
            tried,
            began=self.round_began,
            ended=time.time(),
            counts=counts,
            received=received,
            sent=sent,
        )
        self.progress = dataclasses.replace(
            self.progress,
            tries=tried.attempt.number,
            records=(*self.progress.records, record),
        )
        if not looked:
            self.tried["counted" if counts else "came_to_nothing"] += 1
            self.handed_in.update(tried.outcomes.values())

    def _looks_at(self, number: int) -> bool:
        """Return whether the average that a round begins with is evaluated."""
        every = self.plan.training.evaluate_every
        return bool(every) and number > 1 and (number - 1) % every == 0

    def _calibrated(self, tried: Round) -> State:
        """Return the state with what a calibration has found.

        Raises:
            TrainingError: what clients handed in makes numbers that are none.
        """
        state = self._beginning.calibrated(tried.duty, tried.updates, self.progress.state)
        for tensors in state.groups().values():
            check_all_finite(tensors, f"what comes of {tried.duty}")
        return state

    def _averaged(self, tried: Round) -> State:
        """Return the state after a round, clients in the order of their names."""
        updates = [tried.updates[client] for client in sorted(tried.updates)]
        state = self.progress.state
        clients = average(Weighted(update.tensors, update.weight) for update in updates)
        cloud = updates[0].cloud
        if self.shared:
            last = [client for client in tried.drawn if client in tried.updates][-1]
            cloud = {name: tensor.clone() for name, tensor in tried.updates[last].cloud.items()}
        elif cloud:
            cloud = average(Weighted(update.cloud, update.weight) for update in updates)
        return dataclasses.replace(state, clients=clients, cloud=cloud)

    async def _keep(self, state: State, rounds: int = 0) -> None:
        """Go on with a state, once it is on disk."""
        self.progress = dataclasses.replace(
            self.progress, state=state, done=self.progress.done + rounds
        )
        if self._keeper is not None:
            await self.files(self._keeper.write, self.progress)
        await self._report()

    async def _report(self) -> None:
        """Draw the page of what has happened so far."""
        if self._page is not None:
            records, known = self.progress.records, self.members.known
            await self.files(self._page.draw, records, known, str(self.failure or ""))

    def _say_end(self, how: str) -> None:
        log.info(
            "federation %s %s behind round %d of %d%s%s",
            *(self.plan.name, how, self.progress.done, self.plan.rounds),
            measured_words(last_measured(self.progress.records)),
            f"; its report is {self._page.path}" if self._page else "",
        )

    def _data(self) -> bytes:
        state = self.progress.state
        return tensors_to_bytes({**state.clients, **state.given})

    def _next(self, number: int) -> Attempt:
        return Attempt(number, self.progress.tries + 1, self._life)

    def _gone(self, client: str) -> None:
        if self._trial is not None:
            self._trial.lose(client, GONE, "gone")
