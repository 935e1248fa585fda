"""Which plans there are, what each takes, and which is chosen."""

from __future__ import annotations

import dataclasses

import pytest

from sft_common.errors import ConfigError
from sft_edge.planner.choice import choose, ranked, settings_for, shortlist
from sft_edge.planner.evidence import Risk
from sft_edge.planner.forecasting import Forecast, forecast, yardsticks
from sft_edge.planner.scene import Prepared, Scene, Work
from sft_edge.planner.setting import Asked, Setting
from tests.unit.edge.planner.scenes import GIB, scene

PAPER = Setting("sft", 11, 8, "float32", 1)


def padded_to_66() -> Scene:
    return dataclasses.replace(scene(), batches=((66,) * 32,))


def test_plain_split_learning_moves_what_the_facts_say() -> None:
    """32 x 66 x 768 numbers of 4 bytes; 96 times fewer at rank 8, beside the framing."""
    yard = yardsticks(padded_to_66())
    assert yard.plain_bytes == 6_488_064
    found = forecast(padded_to_66(), PAPER, Asked())
    assert found.bytes_up == found.bytes_down == pytest.approx(6_488_064 / 96, rel=0.005)


def test_only_real_tokens_travel_but_padding_is_computed_where_it_is() -> None:
    even = dataclasses.replace(scene(), batches=((20,) * 32,))
    uneven = dataclasses.replace(scene(), batches=((40,) + (600 // 31,) * 31,))
    same, more = (forecast(each, PAPER, Asked()) for each in (even, uneven))
    assert more.bytes_up < same.bytes_up
    assert more.in_turn_seconds > 1.5 * same.in_turn_seconds


def test_a_step_in_turn_is_the_sum_of_its_parts() -> None:
    """SFT, Eq. 4: net1 up to l, the way there and back, net2 above l."""
    place, tokens = scene(megabits=1000, round_trip=0.0), 13 * 32
    edge, cloud = place.edge_work(3, "none"), place.cloud_work(3)
    found = forecast(place, Setting("none", 3, 0, "float32", 1), Asked())
    passes = sum(w.forward.of(tokens) + w.backward.of(tokens) for w in (edge, cloud))
    way = 2 * found.bytes_up * 8e-9
    updates = edge.update + place.edge.late + cloud.update
    assert found.in_turn_seconds == pytest.approx(passes + way + updates, rel=1e-3)


def test_labels_that_stay_cost_a_round_trip() -> None:
    place = scene(round_trip=1.0)
    sent, kept = (
        forecast(place, PAPER, Asked(labels=where)).seconds for where in ("cloud", "edge")
    )
    assert kept == pytest.approx(sent + 1.0, rel=1e-3)  # and a few logits
    found = forecast(place, PAPER, Asked(labels="edge"))
    assert found.seconds <= found.in_turn_seconds  # nothing beside anything else


def test_what_was_named_is_kept_and_the_rest_is_free() -> None:
    asked = Asked(cut="stream", split_layer=4, rank=24, encoding="int8", micro_batches=3)
    assert list(settings_for(scene(), asked)) == [Setting("stream", 4, 24, "int8", 3)]
    free = list(settings_for(scene(), Asked()))
    assert {each.cut for each in free} == {"stream", "sft", "none"}
    assert {each.split_layer for each in free} == set(range(1, 13))
    assert {each.rank for each in free if each.cut == "none"} == {0}
    assert len(set(free)) == len(free)


def test_halves_that_do_not_fit_are_left_out_on_either_side() -> None:
    low = choose(scene(edge_memory=GIB), Asked())
    assert low.too_large and max(each.setting.split_layer for each in low.ranked) < 12
    asked = Asked(memory_bytes=GIB // 2)
    assert max(each.edge_bytes for each in choose(scene(), asked).ranked) <= GIB // 2
    high = choose(scene(cloud_memory=GIB // 2), Asked())
    assert min(each.setting.split_layer for each in high.ranked) > 1
    none = choose(scene(edge_memory=1000), Asked())
    assert none.best is None and not none.ranked and not none.too_risky


def test_what_may_lose_more_than_is_wanted_or_nobody_knows_is_not_chosen() -> None:
    careful, bold = (choose(scene(), Asked(max_loss=most)) for most in (0.0, 100.0))
    assert all(each.risk.points == 0 for each in careful.ranked)
    assert {each.risk.points for each in careful.too_risky} >= {None} and not bold.too_risky
    assert bold.best and careful.best and bold.best.seconds <= careful.best.seconds * 1.05
    assert len(bold.ranked) + len(bold.too_risky) == len(careful.ranked) + len(careful.too_risky)


def test_on_a_slow_link_less_travels_and_on_a_weak_edge_less_is_done_there() -> None:
    slow, fast = (choose(scene(megabits=rate), Asked()).best for rate in (2.0, 10_000.0))
    assert slow and fast and slow.bytes_up < fast.bytes_up
    assert fast.setting.split_layer == 1
    even = choose(scene(cloud_times=0.1), Asked()).best
    assert even and even.setting.split_layer > 6


def plan(seconds: float, loss: float | None, moved: float, memory: int = 1) -> Forecast:
    setting = PAPER._replace(rank=round(100 * seconds))
    return Forecast(setting, seconds, 0, 0, moved, moved, memory, 1, Risk(loss, ()))


def test_among_plans_as_fast_as_one_another_the_safest_is_best() -> None:
    fast, safe, late = plan(1.0, 0.9, 10), plan(1.04, 0.1, 90), plan(1.06, 0.0, 1)
    assert ranked([late, fast, safe]) == [safe, fast, late]
    assert ranked([]) == []


def test_of_what_nothing_is_known_is_not_taken_to_be_safe() -> None:
    unknown, known = plan(1.0, None, 1), plan(1.04, 2.0, 10)
    assert ranked([unknown, known]) == [known, unknown]
    assert shortlist([unknown, plan(1.2, 2.0, 10)], 9) == [unknown, plan(1.2, 2.0, 10)]


def test_the_short_list_leaves_out_what_something_shown_is_better_than() -> None:
    best, other, worse = plan(1, 0.5, 10), plan(2, 0.0, 10), plan(3, 0.5, 10)
    assert shortlist([best, worse, other], 9) == [best, other]
    assert shortlist([best, other], 1) == [best]
    parts = other._replace(setting=best.setting._replace(micro_batches=8))
    assert shortlist([best, parts], 9) == [best]


def test_the_whole_model_takes_what_both_halves_would_take_here() -> None:
    place = scene(cloud_times=1.0)
    yard, tokens = yardsticks(place), 13 * 32
    both = place.edge_work(6, "none").plus(place.cloud_work(6))
    assert yard.local_seconds == pytest.approx(
        both.forward.of(tokens) + both.backward.of(tokens) + both.update + place.edge.late, rel=0.01
    )
    sizes = place.sizes
    parameters = sizes.base_parameters + 11 * sizes.block_parameters + sizes.top_parameters
    assert yard.local_bytes > 16 * parameters
    unknown = dataclasses.replace(place, cloud=dataclasses.replace(place.cloud, block=Work()))
    assert yardsticks(unknown).local_seconds > place.edge_work(12, "none").forward.of(tokens)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(split_layer=13), "split layer 13 is not one of 1..12"),
        (Asked(rank=769), "rank 769 is outside 1..768"),
        (Asked(cut="tsf"), "unknown cut 'tsf'"),
    ],
)
def test_what_the_model_has_not_is_refused(asked: Asked, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        choose(scene(), asked)


def test_a_prepared_model_is_cut_as_it_was_prepared() -> None:
    place = dataclasses.replace(scene(), layers=(4,), prepared=Prepared("stream", 96, healed=True))
    found = choose(place, Asked(max_loss=100.0))
    assert {plan.setting[:3] for plan in found.ranked} == {("stream", 4, 96)}
    with pytest.raises(ConfigError, match="was prepared for the cut stream at rank 96"):
        choose(place, Asked(rank=16))


def test_where_labels_stay_the_logits_of_every_token_travel() -> None:
    sizes = dataclasses.replace(scene().sizes, token_logits=30_000.0)
    place = dataclasses.replace(scene(), sizes=sizes)
    sent, kept = (forecast(place, PAPER, Asked(labels=where)) for where in ("cloud", "edge"))
    logits = 13 * 32 * 30_000 * 4
    assert kept.bytes_up - sent.bytes_up == pytest.approx(logits, rel=0.01)
    assert kept.seconds - sent.seconds > 2 * logits * 8e-8  # down, and the gradient up


def test_what_the_cloud_reserves_for_a_step_counts() -> None:
    step = dataclasses.replace(scene().cloud, top_step_bytes=GIB, block_step_bytes=2 * GIB)
    place = dataclasses.replace(scene(), cloud=step)
    more = (
        forecast(place, PAPER, Asked()).cloud_bytes - forecast(scene(), PAPER, Asked()).cloud_bytes
    )
    assert more == 3 * GIB


def test_writing_and_reading_numbers_takes_its_time_on_both_sides() -> None:
    edge = dataclasses.replace(scene().edge, codec={"float32": 1e-3})
    slow = forecast(dataclasses.replace(scene(), edge=edge), PAPER, Asked())
    fast = forecast(scene(), PAPER, Asked())
    assert slow.in_turn_seconds - fast.in_turn_seconds == pytest.approx(2 * 13 * 32 * 8 * 1e-3)


def test_a_rank_that_was_named_rules_out_the_cut_that_has_none() -> None:
    assert {each.cut for each in settings_for(scene(), Asked(rank=16))} == {"stream", "sft"}


def test_dropout_takes_its_time_where_net1_has_it() -> None:
    edge = dataclasses.replace(scene().edge, dropout_factor=1.5)
    slow = dataclasses.replace(scene(), edge=edge)
    for cut, more in (("stream", False), ("none", True)):
        setting = Setting(cut, 6, 8 if cut == "stream" else 0, "float32", 1)
        with_it, without = (forecast(place, setting, Asked()).seconds for place in (slow, scene()))
        assert (with_it > 1.2 * without) == more
    assert yardsticks(slow).local_seconds > 1.3 * yardsticks(scene()).local_seconds
