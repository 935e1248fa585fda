"""What an edge takes by itself for a step, out of the moments at which the cloud hears of it."""

from __future__ import annotations

from sft_cloud.away import STEPS, Away


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


def test_a_pause_is_no_slow_edge_and_a_slower_edge_is_soon_known() -> None:
    away = Away()
    now = steps(away, [2.0, 2.0, 500.0, 2.0])
    away.came(now, begins=True)
    assert away.seconds == 2.0
    away.answered(now)
    away.came(steps(away, [6.0] * STEPS, begin=now), begins=True)
    assert away.seconds == 6.0


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
