"""Ticks, thinning, escaping, and SVG without a number that is none."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_common.report.charts import Curve, Lane, Segment, Titles, bar_chart, lane_chart, line_chart
from sft_common.report.figures import bytes_said, count_said, fewer_said, seconds_said
from sft_common.report.markup import Markup, element, escaped, joined
from sft_common.report.scales import HUGE, Point, is_figure, smoothed, thinned, tick_labels, ticks

TITLES = Titles(key="k", title="t", text="what it shows")
HOSTILE = "</svg><script>alert(1)</script>\"'& \x00\x1b\u202e\ud800<img src=x onerror=y>"

figures = st.floats(-HUGE, HUGE)
heights = st.one_of(figures, st.floats(-1, 1), st.sampled_from([0.0, 5e-324, 1e-300, 0.1, 1e15]))


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.013, 0.72, ["0.0", "0.2", "0.4", "0.6", "0.8"]),
        (86.3, 94.9, ["86", "88", "90", "92", "94", "96"]),
        (0, 100_000, ["0k", "20k", "40k", "60k", "80k", "100k"]),
        (-1, 1, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        (0.5, 0.5, ["0.44", "0.46", "0.48", "0.50", "0.52", "0.54", "0.56"]),
        (0, 3e-6, ["0", "1e-06", "2e-06", "3e-06"]),
    ],
)
def test_ticks_are_round_and_their_labels_of_one_length(
    low: float, high: float, labels: list[str]
) -> None:
    assert tick_labels(ticks(low, high)) == labels


@given(heights, heights)
def test_ticks_cover_any_two_numbers(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    found = ticks(low, high)
    assert 2 <= len(found) <= 9
    assert all(map(math.isfinite, found)) and found == sorted(set(found))
    slack = 1e-5 * (found[-1] - found[0])
    assert found[0] <= low + slack and found[-1] >= high - slack
    assert all(label and "nan" not in label and "inf" not in label for label in tick_labels(found))


def test_what_is_no_figure_is_not_drawn() -> None:
    nothing = [None, "1", True, math.nan, math.inf, -math.inf, 1e301, 10**400, [1], {}]
    assert not any(map(is_figure, nothing))
    assert all(map(is_figure, [0, -1, 1.5, 10**30]))


def test_thinning_keeps_the_ends_and_what_stands_out() -> None:
    points = [(float(n), math.sin(n / 500)) for n in range(100_000)]
    points[43_210] = (43_210.0, 99.0)
    points[77_777] = (77_777.0, -99.0)
    found = thinned(points, 360)
    assert len(found) <= 4 * 360
    assert found[0] == points[0] and found[-1] == points[-1]
    assert points[43_210] in found and points[77_777] in found
    assert found == sorted(found)


@given(st.lists(st.tuples(figures, figures), max_size=200), st.integers(1, 20))
def test_thinning_draws_from_left_to_right_and_keeps_both_extremes(
    points: list[Point], columns: int
) -> None:
    points = sorted(points)
    found = thinned(points, columns)
    assert set(found) <= set(points) and found == sorted(found)
    if points:
        heights = [height for _, height in points]
        assert min(heights) == min(h for _, h in found)
        assert max(heights) == max(h for _, h in found)


def test_a_moving_mean_keeps_a_line_and_the_ends() -> None:
    line = [(float(n), 2.0 * n) for n in range(50)]
    assert smoothed(line, 5) == line
    bump = [(0.0, 0.0), (1.0, 3.0), (2.0, 0.0)]
    spike = [(0.0, 1e30), *((float(n), 0.5) for n in range(1, 9))]
    assert [height for _, height in smoothed(spike, 1)][2:] == [0.5] * 7
    assert smoothed(bump, 1) == [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)]


def test_foreign_text_cannot_become_markup() -> None:
    shown = element("p", HOSTILE, title=HOSTILE, class_="x")
    found = ElementTree.fromstring(shown)
    assert found.tag == "p" and not list(found) and set(found.attrib) == {"title", "class"}
    assert found.text == found.attrib["title"]
    assert "<script>" not in shown and "\x00" not in shown and "\u202e" not in shown
    assert "\\x00" in shown and "\\u202e" in shown and "\\ud800" in shown
    shown.encode("utf-8")
    assert escaped(Markup("<b>")) == "<b>"
    assert joined("<", Markup("<br>")) == "&lt;<br>"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (bytes_said(0), "0 B"),
        (bytes_said(999), "999 B"),
        (bytes_said(15_812), "15.8 kB"),
        (bytes_said(272_780_000), "273 MB"),
        (seconds_said(0.000_254), "254 µs"),
        (seconds_said(0.605), "605 ms"),
        (seconds_said(76.31), "76.3 s"),
        (seconds_said(3599.6), "1 h 00 min"),
        (seconds_said(754), "12 min 34 s"),
        (count_said(100_000), "100,000"),
        (fewer_said(158.4), "158 × fewer"),
        (fewer_said(0.5), "2.00 × more"),
    ],
)
def test_figures_have_their_units(said: str, expected: str) -> None:
    assert said == expected


def numbers_of(svg: str) -> list[float]:
    """Return every number of every coordinate of a picture."""
    found = []
    for node in ElementTree.fromstring(svg).iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d"):
            found += [float(n) for n in re.findall(r"-?[^\sML]+", node.attrib.get(name, ""))]
    return found


@given(st.lists(st.lists(st.tuples(st.floats(0, HUGE), heights), max_size=30), max_size=4))
def test_any_curve_is_drawn_inside_its_picture(found: list[list[Point]]) -> None:
    curves = [Curve(name=HOSTILE, points=sorted(p), colour=n) for n, p in enumerate(found)]
    drawn = line_chart(TITLES, curves, x="step", y=HOSTILE)
    if not any(found):
        assert drawn is None
        return
    assert drawn is not None
    assert all(math.isfinite(n) and -1 <= n <= 321 for n in numbers_of(drawn))


def test_one_point_is_a_dot_and_many_are_a_path() -> None:
    one = line_chart(TITLES, [Curve(name="a", points=[(3, 0.5)], colour=0)], x="step", y="loss")
    assert one is not None and one.count("<circle") == 1 and "<path" not in one
    many = [(float(n), n % 7 / 7) for n in range(100_000)]
    drawn = line_chart(TITLES, [Curve(name="a", points=many, colour=9)], x="step", y="loss")
    assert drawn is not None and "<circle" not in drawn and len(drawn) < 40_000
    assert 'class="curve c1 dashed"' in drawn
    assert line_chart(TITLES, [Curve(name="a", points=[], colour=0)], x="step", y="loss") is None


def test_a_picture_says_what_it_shows() -> None:
    drawn = line_chart(TITLES, [Curve(name="a", points=[(1, 1)], colour=0)], x="step", y="loss")
    assert drawn is not None
    found = ElementTree.fromstring(drawn)
    assert found.attrib["role"] == "img"
    ids = {node.attrib["id"]: node.text for node in found.iter() if "id" in node.attrib}
    assert [ids[name] for name in found.attrib["aria-labelledby"].split()] == ["t", "what it shows"]


def lane(name: str, *values: float) -> Lane:
    segments = [Segment(name=HOSTILE, value=value, look="edge") for value in values]
    return Lane(name=name, said="7 s", segments=segments)


def test_lanes_lie_behind_one_another_on_one_axis() -> None:
    lanes = [lane("edge", 3, 1), lane("x" * 200, 0, 2)]
    drawn = lane_chart(TITLES, lanes, unit="seconds", said=seconds_said)
    assert drawn is not None
    bars = [node.attrib for node in ElementTree.fromstring(drawn).iter("rect")]
    (first, second, third) = [(float(b["x"]), float(b["width"])) for b in bars]
    assert first[0] + first[1] == pytest.approx(second[0], abs=0.15)
    assert first[1] == pytest.approx(3 * second[1], abs=0.3)
    assert third[1] == pytest.approx(2 * second[1], abs=0.3)
    assert "x" * 60 not in drawn and "…" in drawn
    assert all(0 <= n <= 321 for n in numbers_of(drawn))


def test_nothing_to_draw_is_no_picture() -> None:
    assert lane_chart(TITLES, [], unit="s", said=str) is None
    assert lane_chart(TITLES, [lane("a", 0, 0)], unit="s", said=str) is None
    assert bar_chart(TITLES, [lane("a", 0)]) is None


def test_an_axis_of_a_share_ends_with_all_of_it() -> None:
    curve = Curve(name="a", points=[(1, 100.0), (2, 100.0)], colour=0)
    drawn = line_chart(TITLES, [curve], x="step", y="accuracy, %", most=100)
    assert drawn is not None and ">100</text>" in drawn and ">105</text>" not in drawn
    assert all(0 <= n <= 321 for n in numbers_of(drawn))
