"""Updates on their way in: slow ones, empty ones, two at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sft_cloud.federation.uploads import Uploads
from sft_common.errors import ForbiddenError, ProtocolError

ME = "f", "a"


async def pieces(*known: bytes, then: float = 0.0) -> AsyncIterator[bytes]:
    for piece in known:
        yield piece
    await asyncio.sleep(then)


def wanted() -> None:
    return None


class Kept(bytearray):
    async def keep(self, piece: bytes) -> None:
        self.extend(piece)


def read(*known: bytes, following: int = 4, then: float = 0.0, seconds: float = 9.0) -> bytes:
    kept, uploads = Kept(), Uploads(seconds)
    asyncio.run(uploads.read(ME, pieces(*known, then=then), following, wanted, kept.keep))
    return bytes(kept)


def test_pieces_are_joined_and_what_was_not_announced_is_refused() -> None:
    assert read(b"ab", b"cd") == b"abcd"
    with pytest.raises(ProtocolError, match="5 bytes came, 4 were announced"):
        read(b"ab", b"cde")
    with pytest.raises(ProtocolError, match="2 of 4 bytes of an update came"):
        read(b"ab")
    with pytest.raises(ProtocolError, match="2 of 4 bytes of an update came"):
        read(b"ab", then=60.0, seconds=0.05)


def test_a_client_that_sends_nothing_without_end_is_refused() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b""

    with pytest.raises(ProtocolError, match="a piece of an update is empty"):
        asyncio.run(Uploads(9.0).read(ME, nothing(), 4, wanted, Kept().keep))


def test_an_upload_ends_when_its_round_does() -> None:
    def over() -> None:
        raise ForbiddenError("round 1, try 1 is over")

    with pytest.raises(ForbiddenError, match="is over"):
        asyncio.run(Uploads(9.0).read(ME, pieces(b"ab", b"cd"), 4, over, Kept().keep))


def test_a_newer_upload_of_a_client_ends_the_one_before() -> None:
    async def story() -> None:
        uploads, older, newer, other = Uploads(60.0), Kept(), Kept(), Kept()
        slow = uploads.read(ME, pieces(b"ab", then=60.0), 4, wanted, older.keep)
        first = asyncio.create_task(slow)
        await asyncio.sleep(0.01)
        await uploads.read(("f", "b"), pieces(b"1234"), 4, wanted, other.keep)
        await uploads.read(ME, pieces(b"abcd"), 4, wanted, newer.keep)
        assert (older, other, newer) == (b"ab", b"1234", b"abcd")
        with pytest.raises(ProtocolError, match="2 of 4 bytes"):
            await asyncio.wait_for(first, 5.0)

    asyncio.run(story())
