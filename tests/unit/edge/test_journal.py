"""What is sent again after a connection is lost, and how long is waited before."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_common.errors import ConfigError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.position import Position
from sft_edge.journal import Journal
from sft_edge.retrying import Retry


def step(number: int, exchange: int = 0) -> pb.TrainRequest:
    return pb.TrainRequest(step=pb.Step(step=number, exchange=exchange))


def apply(number: int) -> pb.TrainRequest:
    return pb.TrainRequest(apply=pb.Apply(step=number))


def kinds(journal: Journal) -> list[str | None]:
    return [sent.request.WhichOneof("request") for sent in journal]


def test_an_answer_confirms_all_that_went_before_it() -> None:
    journal = Journal(Position(4))
    for request in (step(5), step(5, 1)):
        journal.add(request)
    assert (journal.confirmed, journal.sent) == (Position(4), Position(4, 2))
    journal.answered()
    assert (journal.confirmed, journal.sent) == (Position(4, 1), Position(4, 2))
    journal.answered()
    for request in (
        apply(5),
        pb.TrainRequest(keep=pb.Keep(step=5)),
        pb.TrainRequest(evaluate=pb.Evaluate()),
        step(6),
    ):
        journal.add(request)
    assert (journal.confirmed, journal.sent) == (Position(4, 2), Position(5, 1))
    assert kinds(journal) == ["apply", "keep", "evaluate", "step"]
    journal.answered()
    assert (journal.confirmed, kinds(journal)) == (Position(5), ["step"])


@given(st.lists(st.integers(1, 4), max_size=8), st.data())
def test_positions_never_go_back(steps: list[int], data: st.DataObject) -> None:
    """Whatever was answered when: confirmed <= sent, and both only grow."""
    journal, waiting, seen = Journal(), 0, [(Position(), Position())]
    for number, count in enumerate(steps, start=1):
        for exchange in range(count):
            journal.add(step(number, exchange))
            waiting += 1
            for _ in range(data.draw(st.integers(0, waiting))):
                journal.answered()
                waiting -= 1
                seen.append((journal.confirmed, journal.sent))
        while waiting:
            journal.answered()
            waiting -= 1
        journal.add(apply(number))
        seen.append((journal.confirmed, journal.sent))
    assert all(confirmed <= sent for confirmed, sent in seen)
    assert seen == sorted(seen)


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def middle(low: float, high: float) -> float:
    return (low + high) / 2


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(highest, [0.5, 1, 2, 4, 5, 5]), (lowest, [0] * 6), (middle, [0.25, 0.5, 1, 2, 2.5, 2.5])],
)
def test_pauses_double_up_to_a_limit_and_are_drawn_from_all_of_it(
    draw: Callable[[float, float], float], expected: list[float]
) -> None:
    retry = Retry(first_seconds=0.5, most_seconds=5)
    assert list(islice(retry.pauses(draw), 6)) == expected


def test_limits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="the first pause is 9 s, the longest 5 s"):
        Retry(first_seconds=9, most_seconds=5)
