"""A federation that is led in this process, and its clients by hand."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sft_cloud.federation.federation import Federation
from sft_cloud.federation.keeping import Keeper
from sft_cloud.federation.members import Seat
from sft_cloud.federation.round import Round, Update
from sft_cloud.federation.state import State
from sft_cloud.metrics import Traffic
from sft_cloud.scheduler import Scheduler
from sft_common.config import ModelIdentity, SplitSpec
from sft_common.federation.plan import FederationPlan, LocalTraining, Participation, Transfer
from sft_common.federation.said import Attempt, Finding, Said, Waiting, Work
from sft_common.federation.tensors import Shapes, tensors_from_bytes, tensors_to_bytes

SHAPES = {"w": torch.Size([2])}
SOON = 30.0
"""Seconds that something may take that is to come at once."""


class Beginning:
    """Zeros; with a calibration, what it found."""

    def __init__(self, *calibrations: str, cloud: bool = False) -> None:
        self.calibrations = calibrations
        self._cloud = {"n": torch.zeros(1)} if cloud else {}

    def state(self) -> State:
        return State(clients={"w": torch.zeros(2)}, cloud=self._cloud)

    def save(self, state: State, folder: Path) -> None:
        (folder / "w").write_text(str(state.clients["w"].tolist()))

    def calibration_shapes(self, duty: str) -> Shapes:
        return {"mean": torch.Size([2])}

    def calibrated(self, duty: str, found: Mapping[str, Update], before: State) -> State:
        total = sum(update.weight for update in found.values())
        return State(clients={"w": torch.full((2,), float(total))})


def plan(**changes: Any) -> FederationPlan:
    clients: dict[str, Any] = {"per_round": 3, "minimum": 3, "quorum": 2, "patience_seconds": 60.0}
    clients |= {name: changes.pop(name) for name in list(changes) if name in CLIENTS}
    training = {name: changes.pop(name) for name in list(changes) if name == "evaluate_every"}
    return FederationPlan(
        **{
            "name": "f",
            "method": "fedavg",
            "model": ModelIdentity(name="m"),
            "labels": ("a", "b"),
            "rounds": 2,
            "clients": Participation(**clients),
            "training": LocalTraining(**training),
            **changes,
        }
    )


CLIENTS = {field.name for field in dataclasses.fields(Participation)}
SHARED = {
    "method": "splitfed-shared",
    "cut": Transfer(split=SplitSpec(cut="none", split_layer=1)),
}


class Scene:
    """A federation that is led, and its clients by hand."""

    def __init__(self, known: FederationPlan, beginning: Beginning, keeper: Keeper | None) -> None:
        self.scheduler = Scheduler(2)
        self.nets: dict[str, dict[str, Tensor]] = {}
        self.federation = Federation(
            known,
            beginning,
            self.scheduler,
            Traffic(),
            keeper=keeper,
            net2_of=self._net2_of,
        )
        self.seats: dict[str, Seat[Said]] = {}

    async def _net2_of(self, session_id: str, owner: str, seed: int) -> dict[str, Tensor]:
        return self.nets[session_id]

    def join(self, *clients: str, at: Attempt | None = None) -> None:
        for client in clients:
            self.seats[client] = self.federation.attend(client, "", 1, at)

    async def hear(self, client: str) -> Said:
        """Return what a client is told next that is not about waiting."""
        while True:
            said = await asyncio.wait_for(self.seats[client].hear(), SOON)
            assert said is not None
            if not isinstance(said, Waiting):
                return said

    async def work(self, client: str) -> Work:
        said = await self.hear(client)
        assert isinstance(said, Work), said
        return said

    async def hand_in(
        self,
        client: str,
        work: Work,
        value: float,
        *,
        weight: int = 1,
        session_id: str = "",
        finding: Finding | None = None,
        name: str = "w",
    ) -> None:
        data = tensors_to_bytes({name: torch.full((2,), value)})
        update = Update(weight=weight, tensors={}, finding=finding)
        await self.hand_in_data(client, work, update, data, session_id)

    async def hand_in_data(
        self, client: str, work: Work, update: Update, data: bytes = b"", session_id: str = ""
    ) -> None:
        with closing(self.federation.spooled()) if data else nullcontext() as file:
            if file:
                file.write(data)
            await self.federation.hand_in(client, "", 1, work.attempt, update, file, session_id)

    async def works(self, clients: str = "abc") -> dict[str, Work]:
        """Return what each of them is to do next."""
        return {client: await self.work(client) for client in clients}

    async def one_round(
        self, value: float, clients: str = "abc", finding: Finding | None = None
    ) -> None:
        """Have all of them do what they are to do, once each of them has heard of it."""
        for client, work in (await self.works(clients)).items():
            await self.hand_in(client, work, value, finding=finding)

    async def evaluated(self, client: str) -> None:
        """Do the last duty, and hear of the end."""
        work = await self.work(client)
        assert work.duty == "evaluate" and work.evaluate
        update = Update(weight=1, tensors={})
        await self.hand_in_data(client, work, update)

    async def end(self, clients: str = "abc") -> None:
        """Have all of them look at the last average."""
        for client in clients:
            await self.evaluated(client)
        await self.until(lambda: self.federation.ended)

    @property
    def average(self) -> list[float]:
        return self.federation.progress.state.clients["w"].tolist()

    async def tried(self, number: int) -> Round:
        """Return a try once it goes on."""
        await self.until(lambda: self.federation.progress.tries == number - 1)
        await self.until(lambda: self._at() == number)
        assert self.federation.round is not None
        return self.federation.round

    def _at(self) -> int:
        tried = self.federation.round
        return tried.attempt.number if tried else 0

    async def until(self, condition: Callable[[], bool]) -> None:
        end = asyncio.get_running_loop().time() + SOON
        while not condition():
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.005)


@asynccontextmanager
async def led(
    known: FederationPlan, beginning: Beginning | None = None, folder: Path | None = None
) -> AsyncIterator[Scene]:
    keeper = Keeper(folder, known) if folder else None
    scene = Scene(known, beginning or Beginning(), keeper)
    leading = asyncio.create_task(scene.federation.lead())
    try:
        yield scene
    finally:
        leading.cancel()
        scene.scheduler.close()


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def given(work: Work) -> list[float]:
    return tensors_from_bytes(work.data, SHAPES, "given")["w"].tolist()
