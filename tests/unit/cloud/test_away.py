"""What an edge takes by itself for a step, out of the moments at which the cloud hears of it."""

from __future__ import annotations

import pytest

from sft_cloud.away import WEIGHT, Away
from sft_cloud.fairness import LongestFirstQueue, Share


def steps(away: Away, owns: list[float], *, begin: float = 0.0, cloud: float = 7.0) -> float:
    """Have an edge take steps of given own times; returns when it asks for the next."""
    now = begin
    for own in owns:
        away.came(now, begins=True)
        away.answered(now + cloud)
        now += cloud + own
    return now


def test_the_clouds_own_time_is_not_the_edges() -> None:
    away = Away()
    away.came(steps(away, [3.0]), begins=True)
    assert away.seconds == 3.0


def test_nothing_is_known_before_a_whole_step() -> None:
    away = Away()
    away.came(5.0, begins=False)  # the rest of a step whose begin another stream saw
    away.answered(6.0)
    away.came(8.0, begins=True)
    assert away.seconds is None


def test_it_is_a_running_mean() -> None:
    away = Away()
    away.came(steps(away, [2.0, 4.0]), begins=True)
    assert away.seconds == pytest.approx(2.0 + WEIGHT * 2.0)


def test_labels_on_the_edge_are_one_step_with_two_absences() -> None:
    away = Away()
    away.came(0.0, begins=True)
    away.answered(1.0)
    away.came(3.0, begins=False)  # backward, 2 s after the logits
    away.answered(4.0)
    away.came(9.0, begins=True)  # the next forward, 5 s after the gradient
    assert away.seconds == 7.0


def test_a_micro_batch_that_was_there_before_the_answer_adds_nothing() -> None:
    away = Away()
    away.came(0.0, begins=True)
    away.answered(4.0)
    away.came(1.0, begins=False)
    away.answered(8.0)
    away.came(10.0, begins=True)
    assert away.seconds == 2.0


def test_an_evaluation_in_between_is_no_part_of_a_step() -> None:
    away = Away()
    now = steps(away, [2.0])
    away.came(now, begins=True)
    away.answered(now + 1)
    away.interrupted()
    now = steps(away, [2.0], begin=now + 500)
    away.came(now, begins=True)
    assert away.seconds == 2.0


def round_of(owns: list[float], queue: LongestFirstQueue[int], device: float = 1.0) -> list[int]:
    """Simulate edges that take steps side by side on one device; returns who was served, in order.

    Each measures itself as in a cloud: nobody tells the queue how long an edge is away.
    """
    shares, aways = [Share() for _ in owns], [Away() for _ in owns]
    coming, free, order = {number: 0.0 for number in range(len(owns))}, 0.0, list[int]()
    while len(order) < 40 * len(owns):
        if not len(queue):
            free = max(free, min(coming.values()))
        for number in sorted(n for n, moment in coming.items() if moment <= free):
            aways[number].came(coming.pop(number), begins=True)
            shares[number].own_seconds = aways[number].seconds
            queue.put(shares[number], number)
        number, share = queue.take()
        free += device
        queue.charge(share, device)
        aways[number].answered(free)
        coming[number] = free + owns[number]
        order.append(number)
    return order


def test_measured_edges_keep_the_pace_of_their_own_time() -> None:
    """The slowest is hardly held up by seven fast ones that want the device all the time."""
    owns = [1.0] * 7 + [8.0]
    order = round_of(owns, LongestFirstQueue())[80:]
    places = [place for place, number in enumerate(order) if number == 7]
    turns = [after - before for before, after in zip(places, places[1:], strict=False)]
    assert max(turns) <= 8 + 2  # its own time, its work, and the work that it finds begun
    assert min(order.count(number) for number in range(7)) > 0
