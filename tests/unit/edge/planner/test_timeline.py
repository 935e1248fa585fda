"""What runs beside what in a step, against sums done by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_edge.planner.timeline import Around, Leg, Timeline, in_turn

STEADY = 50
"""Steps after which one takes as long as the one before, if the cloud's updates pile up."""

NONE = Around(latency=0.0, update=0.0, late=0.0, cloud_update=0.0)

seconds = st.floats(0, 10)
legs = st.lists(st.builds(Leg, *[seconds] * 8), min_size=1, max_size=8)
arounds = st.builds(Around, seconds, seconds, seconds, seconds)


def steady(each: list[Leg], around: Around = NONE, *, kept: bool = False) -> tuple[float, float]:
    """Return seconds and waiting of a step that follows others like it."""
    line = Timeline(kept=kept)
    for _ in range(STEADY):
        found = line.step(each, around)
    return found


def test_one_thing_after_the_other_is_the_sum() -> None:
    leg = Leg(1, 2, 3, 4, 5, 6)
    around = Around(latency=0.5, update=7, late=8, cloud_update=9)
    assert in_turn([leg], around) == 1 + 2 + 3 + 4 + 5 + 6 + 2 * 0.5 + 7 + 8 + 9


def test_a_batch_in_one_part_waits_for_everything_there() -> None:
    assert steady([Leg(1, 2, 3, 4, 5, 6)]) == (21, 14)


def test_parts_hide_link_and_cloud_behind_the_edges_work() -> None:
    """Answers come at 1.3 and 2.3; they are taken at 2 and 3."""
    assert steady([Leg(1, 0.1, 0.05, 0.05, 0.1, 1)] * 2) == (4, 0)
    assert steady([Leg(2, 0.2, 0.1, 0.1, 0.2, 2)])[0] == pytest.approx(4.6)


def test_the_link_carries_one_activation_after_the_other() -> None:
    """Sent at 1, there at 4; the second, ready at 2, waits for the link and is there at 7."""
    leg = Leg(1, 3, 0, 0, 0, 0)
    assert steady([leg, leg])[0] == 7


def test_waiting_is_used_for_what_can_be_put_off() -> None:
    leg = Leg(1, 0, 2, 0, 0, 1)
    assert steady([leg], NONE._replace(late=1.5)) == (4, 0.5)
    assert steady([leg], NONE._replace(late=3)) == (5, 0)


def test_the_clouds_update_holds_up_the_next_step_alone_where_it_is_long() -> None:
    leg = Leg(1, 0, 1, 0, 0, 1)
    assert steady([leg], NONE._replace(cloud_update=1))[0] == 3
    assert steady([leg], NONE._replace(cloud_update=5))[0] == 6


def test_labels_that_stay_take_a_second_round_trip() -> None:
    leg, around = Leg(1, 0.5, 1, 2, 0.5, 1), NONE._replace(latency=10)
    assert steady([leg], around)[0] == 26
    assert steady([leg], around, kept=True)[0] == 46


@given(legs, arounds, st.booleans())
def test_no_step_is_faster_than_its_longest_part_or_slower_than_all_in_turn(
    each: list[Leg], around: Around, kept: bool
) -> None:
    found, waiting = steady(each, around, kept=kept)
    edge = sum(leg.forward + leg.backward for leg in each) + around.update + around.late
    cloud = sum(leg.cloud_forward + leg.cloud_backward for leg in each) + around.cloud_update
    assert found >= max(edge, cloud, sum(leg.up for leg in each)) - 1e-9
    assert found <= in_turn(each, around, kept=kept) + 1e-9
    assert found == pytest.approx(edge + waiting)
