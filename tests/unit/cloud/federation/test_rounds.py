"""Who is drawn, what counts, who takes part: without models, clocks or RPC."""

from __future__ import annotations

import asyncio

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_cloud.federation.members import Members, Seat
from sft_cloud.federation.record import RoundRecord
from sft_cloud.federation.round import Round, Update, draw
from sft_common.errors import ForbiddenError
from sft_common.federation.said import Attempt, Finding

AT = Attempt(3, 7, 99)
NAMES = [f"client-{n}" for n in range(10)]


def update(weight: int = 1, finding: Finding | None = None) -> Update:
    return Update(weight=weight, tensors={"p": torch.ones(2)}, finding=finding)


@given(
    st.sets(st.text("abcdef", min_size=1), max_size=12),
    st.integers(1, 8),
    st.integers(0, 2**63 - 1),
)
def test_a_draw_is_of_those_there_and_the_same_whatever_their_order(
    names: set[str], count: int, seed: int
) -> None:
    drawn = draw(names, count, seed=seed, attempt=AT)
    assert len(set(drawn)) == len(drawn) == min(count, len(names))
    assert set(drawn) <= names
    assert drawn == draw(sorted(names, reverse=True), count, seed=seed, attempt=AT)


def test_every_round_and_every_try_draws_anew_and_everybody_comes_to_it() -> None:
    tries = [Attempt(n, n, 1) for n in range(1, 40)]
    drawn = [tuple(draw(NAMES, 5, seed=0, attempt=at)) for at in tries]
    assert len(set(drawn)) > 30
    assert {name for names in drawn for name in names} == set(NAMES)
    again = [tuple(draw(NAMES, 5, seed=0, attempt=at._replace(life=2))) for at in tries]
    assert again == drawn, "a cloud that was started again draws as before"


def test_what_came_once_counts_once_and_the_first_stays() -> None:
    tried = Round(AT, "train", ["a", "b"])
    tried.ask(["a", "b"])
    tried.take("a", first := update(1))
    tried.take("a", update(2))
    assert tried.updates == {"a": first} and tried.missing == ["b"]
    assert not tried.accept("a") and tried.accept("b")


def test_late_foreign_and_lost_updates_are_refused_with_the_reason() -> None:
    tried = Round(AT, "train", ["a", "b", "c"])
    tried.ask(["a", "b", "c"])
    tried.take("a", update())
    with pytest.raises(ForbiddenError, match="round 3, try 7 is not for this client"):
        tried.take("x", update())
    tried.lose("b", "the client has gone")
    with pytest.raises(ForbiddenError, match="goes on without this client: the client has gone"):
        tried.take("b", update())
    tried.close()
    with pytest.raises(ForbiddenError, match="was closed before the update came"):
        tried.take("c", update())
    assert not tried.accept("a"), "what is there is told once more that it counts"
    assert set(tried.updates) == {"a"}
    assert tried.lost == {"b": "the client has gone", "c": "nothing came in time"}


def test_a_client_that_has_handed_in_is_not_lost() -> None:
    tried = Round(AT, "train", ["a"])
    tried.ask(["a"])
    tried.take("a", update())
    tried.lose("a", "gone")
    assert tried.lost == {}


def test_a_record_weighs_what_clients_found_by_their_examples() -> None:
    tried = Round(AT, "train", ["a", "b", "c"])
    tried.ask(["a", "b", "c"])
    tried.take("a", update(10, Finding(examples=1, metric="accuracy", value=1.0, loss=0.0)))
    tried.take("b", update(30, Finding(examples=3, metric="accuracy", value=0.5, loss=2.0)))
    tried.close()
    record = RoundRecord.of(tried, began=1.0, ended=2.0, counts=True, received=5, sent=6)
    assert (record.value, record.loss, record.evaluated) == (0.625, 1.5, 4)
    assert record.examples == 40 and record.arrived == ["a", "b"]
    assert record.refused == {"c": "nothing came in time"}
    assert RoundRecord(**record.facts()) == record


def test_a_record_without_findings_says_none() -> None:
    tried = Round(AT, "train", ["a"])
    tried.ask(["a"])
    tried.take("a", update(10))
    record = RoundRecord.of(tried, began=1.0, ended=2.0, counts=True, received=5, sent=6)
    assert (record.metric, record.value, record.loss) == ("", None, None)


def test_a_client_that_is_away_counts_as_there_for_a_while() -> None:
    async def play() -> None:
        gone: list[str] = []
        members: Members[str] = Members(0.05, gone.append)
        seat = members.sit("a", "", 1)
        members.leave(seat)
        assert members.present == ["a"] and members.seat("a") is None
        again = members.sit("a", "", 1)
        members.leave(seat)  # an older stream ends late
        await asyncio.sleep(0.1)
        assert members.present == ["a"] and gone == []
        members.leave(again)
        await asyncio.sleep(0.1)
        assert members.present == [] and gone == ["a"] and members.known == ["a"]

    asyncio.run(play())


def test_a_newer_stream_takes_the_seat_and_an_older_program_is_refused() -> None:
    async def play() -> None:
        members: Members[str] = Members(60, lambda _: None)
        old = members.sit("a", "me", 1)
        new = members.sit("a", "me", 2)
        with pytest.raises(ForbiddenError, match="another program takes part"):
            await old.hear()
        with pytest.raises(ForbiddenError, match="another program takes part"):
            members.check("a", "me", 1)
        members.check("a", "me", 2)
        new.say("hello")
        new.end()
        assert await new.hear() == "hello" and await new.hear() is None

    asyncio.run(play())


def test_what_was_not_heard_yet_can_be_taken_back() -> None:
    async def play() -> None:
        seat: Seat[list[int]] = Seat("a")
        first, second = [1], [1]
        seat.say(first)
        seat.say(second)
        assert seat.take_back(first) and not seat.take_back(first)
        assert await seat.hear() is second
        assert not seat.take_back(second)

    asyncio.run(play())


def test_a_round_lets_go_of_tensors_and_says_few_reasons() -> None:
    names = [f"c{n}" for n in range(8)]
    tried = Round(AT, "train", ["a", *names])
    tried.ask(["a", *names])
    tried.take("a", update(3))
    for name in names:
        tried.lose(name, "no room")
    assert tried.losses.startswith("c0: no room; ") and tried.losses.endswith("; and 3 more")
    tried.forget()
    assert not tried.updates["a"].tensors and tried.updates["a"].weight == 3


def test_a_name_belongs_to_one_edge() -> None:
    async def play() -> None:
        members: Members[str] = Members(60, lambda _: None)
        members.sit("a", "me", 1)
        with pytest.raises(ForbiddenError, match="is another edge's"):
            members.sit("a", "somebody", 2)
        with pytest.raises(ForbiddenError, match="is another edge's"):
            members.check("a", "somebody", 1)

    asyncio.run(play())
