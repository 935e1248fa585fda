"""What a federation holds in memory does not grow with its rounds, nor with who listens."""

from __future__ import annotations

import gc
import weakref

from torch import Tensor

from sft_cloud.federation.messages import messages_of
from sft_common.federation.said import Ended, Over, Work
from sft_common.federation.tensors import PIECE_BYTES
from tests.unit.cloud.federation.scene import led, plan, play


def test_a_client_that_is_there_and_does_not_listen_keeps_no_averages() -> None:
    async def story() -> None:
        async with led(plan(rounds=3, quorum=2, round_seconds=0.5)) as scene:
            scene.join("a", "b", "mute")
            for _ in range(3):
                for client in "ab":
                    work = await scene.work(client)
                    await scene.hand_in(client, work, 1.0)
            for client in "ab":
                await scene.evaluated(client)
            await scene.until(lambda: scene.federation.ended)
            heard = []
            while (said := await scene.seats["mute"].hear()) is not None:
                heard.append(said)
            assert not [one for one in heard if isinstance(one, Work | Over)]
            assert isinstance(heard[-1], Ended) and heard[-1].data

    play(story())


def test_updates_that_are_averaged_are_let_go() -> None:
    async def story() -> None:
        async with led(plan(rounds=2, minimum=3)) as scene:
            scene.join("a", "b", "c")
            held: list[weakref.ref[Tensor]] = []
            for client in "abc":
                await scene.hand_in(client, await scene.work(client), 1.0)
                tried = scene.federation.round
                assert tried is not None
                if client in tried.updates:
                    held.append(weakref.ref(tried.updates[client].tensors["w"]))
            assert held
            await scene.work("a")
            gc.collect()
            assert not [one for one in held if one() is not None]

    play(story())


def test_who_comes_after_the_end_is_told_the_same_bytes() -> None:
    async def story() -> None:
        async with led(plan(rounds=1)) as scene:
            scene.join("a", "b", "c")
            await scene.one_round(1.0)
            await scene.end()
            scene.join("x", "y")
            one, other = await scene.hear("x"), await scene.hear("y")
            assert one is other and isinstance(one, Ended) and one.data

            # An average leaves piece by piece, not as a list of copies of all of it.
            large = Ended(bytes(3 * PIECE_BYTES))
            sent = messages_of(large, 3)
            assert next(sent).ended.following == len(large.data)
            assert [len(message.piece) for message in sent] == [PIECE_BYTES] * 3

    play(story())
