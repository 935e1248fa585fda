"""One try at a round, with its clients: tells them what to do, and takes what comes in time.

It knows no models, no RPC, and no rounds but its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from sft_cloud.federation.members import Members
from sft_cloud.federation.round import GONE, LATE, Round, Update
from sft_common.federation.said import Over, Said, Work


class Trial:
    """Has some clients do their duty once.

    Args:
        tried: the round, with those that were drawn.
        members: all clients that are there.
        work: what those drawn are to do.
        cloud: the net2 that they begin with; empty where the cloud trains none.
        seconds: after which nobody is waited for any more; of a turn, where clients take turns.
        shared: whether they take turns, each with the net2 of the one before.
    """

    def __init__(
        self,
        tried: Round,
        members: Members[Said],
        work: Work,
        *,
        cloud: Mapping[str, Tensor],
        seconds: float,
        shared: bool,
    ) -> None:
        self.round, self.cloud = tried, cloud
        self._members, self._work = members, work
        self._seconds, self._shared = seconds, shared
        self._told: dict[str, Work] = {}
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Go on until all have handed in or were lost, or the time is over."""
        drawn = self.round.drawn
        for clients in [[client] for client in drawn] if self._shared else [drawn]:
            await self._turn(clients)
            # Of clients in turns the first alone meets the average: later ones another net2.
            self._work = dataclasses.replace(self._work, evaluate=False)
        self.round.close()

    def work_of(self, client: str) -> Work | None:
        """Return what a client is to do now, if anything."""
        return self._told.get(client) if self.round.awaits(client) else None

    def take(self, client: str, update: Update) -> None:
        """Count an update; raises as `Round.accept`."""
        self.round.take(client, update)
        self._moved.set()

    def lose(self, client: str, reason: str, outcome: str = "gave_up") -> None:
        """Go on without a client of which nothing has come; arguments as of `Round.lose`."""
        self.round.lose(client, reason, outcome)
        self._moved.set()

    async def _turn(self, clients: Sequence[str]) -> None:
        """Have some clients work at once."""
        self.round.ask(clients)
        present = set(self._members.present)
        for client in clients:
            self._tell(client, there=client in present)
        await self._all_in(clients)
        for client in clients:
            seat, lost = self._members.seat(client), self.round.lost.get(client)
            if lost is not None and seat is not None and not seat.take_back(self._work):
                seat.say(Over(self.round.attempt, lost))
            if self._shared and client in self.round.updates:
                self.cloud = self.round.updates[client].cloud

    def _tell(self, client: str, *, there: bool) -> None:
        self._told[client] = self._work
        if not there:
            self.round.lose(client, GONE, "gone")
        elif (seat := self._members.seat(client)) is not None:
            seat.say(self._work)

    async def _all_in(self, clients: Sequence[str]) -> None:
        """Wait for some clients, but no longer than the time of their turn."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        while any(map(self.round.awaits, clients)):
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), end - loop.time())
            except TimeoutError:
                for client in clients:
                    self.round.lose(client, LATE, "late")
