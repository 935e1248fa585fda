"""Hostile edges: streams that send what the grammar writes, break off anywhere, and see answers.

Each edge draws from a seed of its own. What the cloud answers names sessions and says how far they
have come; so two storms of one seed are alike, not the same to the last message.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import Any

import grpc

from benchmarks.fuzz_findings import DEFECTS, STREAM_SECONDS, Finding, Refusal, Tally, refusal_in
from benchmarks.fuzz_grammar import Course, Grammar, Names
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position
from sft_common.rpc.options import PROBE_BYTES, SERVICE
from sft_common.wire.framing import SLOTS

WINDOW = 12
"""Requests that are sent ahead of their answers."""

WRONG = 0.02
"""Of the requests inside a session: each of them ends it."""

AGAIN = 0.3
"""Of the steps and applies inside a session: sent once more, which must change nothing."""

ANSWERED = (b"\x0a", b"\x1a")
"""First bytes of a step and an evaluate."""


class HostileEdge:
    """One of many that send at once.

    Args:
        draw: of everything random.
        channel: to the cloud.
        grammar: writes what is sent.
        names: of all sessions that were opened; it adds its own.
        tally: counts.
    """

    def __init__(
        self,
        draw: Random,
        channel: grpc.aio.Channel,
        grammar: Grammar,
        names: Names,
        tally: Tally,
    ) -> None:
        self._draw, self._channel, self._grammar = draw, channel, grammar
        self._names, self._tally = names, tally
        self._course: Course | None = None
        self._told: list[bytes] = []

    async def run(self) -> None:
        """Send until there was enough."""
        while not self._tally.enough:
            chance = self._draw.random()
            if chance < 0.04:
                await self._session()
            elif chance < 0.95:
                await self._knock()
            else:
                await self._ask()

    async def _knock(self) -> None:
        """Begin a stream with whatever, and mostly leave it at that."""
        raws = [self._grammar.spoiled(self._grammar.any_first())]
        if self._draw.random() < 0.1:
            raws.append(self._grammar.spoiled(self._grammar.any_first()))
        await self._play("knock", raws)

    async def _session(self) -> None:
        """Begin a stream well, and go wrong in the middle of it, or break off."""
        course = self._course
        if course is None or not course.session_id or self._draw.random() < 0.1:
            course = self._course = self._grammar.course()
            first, self._told = self._grammar.opening(course), []
        else:
            first = self._grammar.return_to(course)
        await self._play("session", [first.SerializeToString()], course)

    async def _play(self, place: str, raws: list[bytes], course: Course | None = None) -> None:
        """Send a stream and take its answers to its end."""
        call: Any = self._channel.stream_stream(f"/{SERVICE}/Train")()
        sent: list[bytes] = []
        try:
            async with asyncio.timeout(STREAM_SECONDS):
                refusal = await self._exchange(call, raws, course, sent)
        except TimeoutError:
            call.cancel()
            self._found("a stream did not end", sent, course)
            return
        self._tally.ended(refusal, place)
        if refusal is not None and refusal.name in DEFECTS:
            self._found(f"{refusal.name}: {refusal.words}", sent, course)
        if course is not None:
            self._told += sent[1:] if self._told else sent
            if refusal is not None and self._draw.random() < 0.7:
                self._course = None

    async def _exchange(
        self, call: Any, raws: list[bytes], course: Course | None, sent: list[bytes]
    ) -> Refusal | None:
        room, hello = asyncio.Semaphore(WINDOW), asyncio.Event()
        reading = asyncio.create_task(self._read(call, course, room, hello))
        try:
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                for raw in raws:
                    await self._write(call, raw, sent, wrong=course is None)
                if course is not None:
                    await hello.wait()
                    await self._talk(call, course, sent, room)
                elif self._draw.random() < 0.05:
                    call.cancel()
                await call.done_writing()
            return await reading
        finally:
            reading.cancel()

    async def _talk(
        self, call: Any, course: Course, sent: list[bytes], room: asyncio.Semaphore
    ) -> None:
        """Go on inside a session."""
        for _ in range(self._draw.randint(1, 150)):
            if call.done():
                return
            raws, right = self._next(course)
            for number, raw in enumerate(raws):
                if raw[:1] in ANSWERED:
                    await room.acquire()
                wrong = not right or (number > 0 and raw == raws[0])
                self._tally.inside += wrong
                await self._write(call, raw, sent, wrong=wrong)
        if (last := self._grammar.last(course)) is not None:
            await self._write(call, last.SerializeToString(), sent, wrong=False)
        elif self._draw.random() < 0.5:
            call.cancel()

    def _next(self, course: Course) -> tuple[list[bytes], bool]:
        """Return what comes next inside a session, and whether it should be taken."""
        request, chance = self._grammar.following(course), self._draw.random()
        if chance < WRONG / 4:
            return [self._grammar.spoiled(self._grammar.any_first())], False
        if chance < WRONG:
            return [self._grammar.spoiled(request)], False
        kind = request.WhichOneof("request")
        if chance < 3 * WRONG and kind in SLOTS:
            return self._grammar.in_pieces(request)
        raw = request.SerializeToString()
        again = chance > 1 - AGAIN and kind in ("step", "apply")
        return ([raw] * self._draw.randint(2, 4) if again else [raw]), True

    async def _write(self, call: Any, raw: bytes, sent: list[bytes], *, wrong: bool) -> None:
        sent.append(raw)
        self._tally.messages += 1
        self._tally.wrong += wrong
        await call.write(raw)

    async def _read(
        self, call: Any, course: Course | None, room: asyncio.Semaphore, hello: asyncio.Event
    ) -> Refusal | None:
        """Take answers until the stream ends; returns what it was refused with, if it was."""
        try:
            async for raw in call:
                self._heard(raw, course)
                hello.set()
                room.release()
        except grpc.RpcError as error:
            return refusal_in(error)
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
        finally:
            hello.set()
            for _ in range(WINDOW):  # whoever waits for an answer finds the stream ended
                room.release()
        return None

    def _heard(self, raw: bytes, course: Course | None) -> None:
        response = pb.TrainResponse.FromString(raw)
        kind = str(response.WhichOneof("response"))
        self._tally.answers[kind] += 1
        if course is None:
            return
        if kind == "opened":
            course.session_id = response.opened.session_id
            self._names[course.session_id] = course.spec
        elif kind == "resumed":
            at = response.resumed.position
            if at.exchanges != course.position.exchanges:
                course.share_left = 0.0 if at.exchanges else 1.0
                course.waiting.clear()
            course.position = Position(at.applied, at.exchanges, min(at.stored, 1))
        elif kind in ("closed", "running", "parked"):
            self._course = None

    async def _ask(self) -> None:
        """Ask for a half, for how a training goes, or who the cloud is."""
        name = self._draw.choice([*list(self._names)[-20:], "../" * 9, "0" * 16, "\n" * 500])
        follow = pb.FollowRequest(session_id=name, from_event=self._draw.choice([0, 1, 2**64 - 1]))
        export = pb.ExportRequest(session_id=name)
        size = self._draw.choice([0, 1, PROBE_BYTES, PROBE_BYTES + 1, 2**32 - 1])
        greet = pb.GreetRequest(payload=b"\n" * min(size, 2 * PROBE_BYTES), answer_bytes=size)
        asked = [("Follow", follow), ("Export", export), ("Greet", greet)]
        kind, request = self._draw.choice(asked)
        raw = request.SerializeToString()
        if self._draw.random() < 0.3:
            raw = self._draw.randbytes(self._draw.randint(0, 60))
        method: Any = self._channel.unary_stream(f"/{SERVICE}/{kind}")
        call: Any = method(raw, timeout=STREAM_SECONDS)
        self._tally.messages += 1
        self._tally.wrong += 1
        refusal = None
        try:
            async for _ in call:
                self._tally.answers[kind] += 1
                if self._draw.random() < 0.05:
                    call.cancel()
        except grpc.RpcError as ended:
            refusal = refusal_in(ended)
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
        self._tally.ended(refusal, kind)
        if refusal is not None and refusal.name in DEFECTS:
            self._found(f"{kind}: {refusal.name}: {refusal.words}", [], None)

    def _found(self, what: str, sent: list[bytes], course: Course | None) -> None:
        told = [*self._told, *sent[1:]] if course is not None and self._told else sent
        self._tally.findings.append(Finding(what, told))
