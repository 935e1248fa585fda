"""The page of a federation: how good its average is, at what cost, and who took part.

It draws what it is told, and knows no round that still goes on, no client and no file but the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from sft_cloud.federation.chronicle import History, Round, averages
from sft_cloud.federation.report_rounds import clients_card, rounds_card, time_said
from sft_common.files import written_aside
from sft_common.report.charts import Curve
from sft_common.report.curves import curve_card
from sft_common.report.figures import bytes_said, bytes_unit, count_said, seconds_said
from sft_common.report.markup import Markup, element
from sft_common.report.metrics import metric_axis, metric_most, on_axis, shown
from sft_common.report.page import card, cards, note, page, pairs, tiles
from sft_common.report.scales import Point, is_figure

_METRIC, _LOSS = 1, 0
"""Colours."""


def report_of(history: History) -> str:
    """Return the page of a federation."""
    rounds = history["rounds"]
    return page(
        f"{history['name']}: federation",
        element("h1", history["name"]),
        element("p", _headline(history), class_="soft"),
        *([note(f"It has stopped: {history['failure']}")] if history["failure"] else []),
        *([note(_unfinished(history))] if _done(history) < history["rounds_planned"] else []),
        tiles(_tiles(history)),
        cards(
            [
                *_curves(rounds, "round by round", *_numbers(rounds)),
                *_curves(rounds, "for its bytes", *_moved(rounds)),
                clients_card(averages(rounds)),
                _setting(history),
                rounds_card(rounds),
            ]
        ),
        element("footer", "drawn by sft-cloud from the federation's own history"),
    )


def write_report(history: History, target: Path) -> None:
    """Write the page of a federation; it appears whole, in place of a former one."""
    with written_aside(target) as aside:
        aside.write_text(report_of(history), encoding="utf-8")


def _headline(history: History) -> str:
    private = f"private: {history['privacy']}" if history["privacy"] else ""
    words = (history["method"], history["model"], history["cut"], private)
    return " · ".join(filter(None, words))


def _unfinished(history: History) -> str:
    done, planned = _done(history), history["rounds_planned"]
    where = f"{count_said(done)} of {count_said(planned)} rounds" if done else "no round yet"
    return f"This federation has not come to its end; this is its history, {where}."


def _tiles(history: History) -> Iterator[tuple[str, str]]:
    rounds = history["rounds"]
    name = _metric(rounds)
    if points := _values(rounds, name):
        at, value = points[-1]
        yield shown(name, value), f"{name} in round {count_said(rounds[at]['number'])}"
    yield count_said(_done(history)), f"rounds of {count_said(history['rounds_planned'])}"
    if rounds:
        yield bytes_said(sum(map(_bytes, rounds))), "moved, both ways"
    if done := averages(rounds):
        each = sum(one["ended"] - one["began"] for one in done) / len(done)
        yield seconds_said(max(0.0, each)), "for a mean round"


def _done(history: History) -> int:
    return len(averages(history["rounds"]))


def _metric(rounds: Sequence[Round]) -> str:
    """Return the name of the metric that was measured last; "" if none was."""
    return next((one["metric"] for one in reversed(rounds) if one["metric"]), "")


def _values(rounds: Sequence[Round], name: str) -> list[tuple[int, float]]:
    """Return (place of the round, value) wherever a metric of this name was measured."""
    return [
        (at, one["value"])
        for at, one in enumerate(rounds)
        if name and one["metric"] == name and is_figure(one["value"])
    ]


def _bytes(one: Round) -> int:
    return one["bytes_received"] + one["bytes_sent"]


def _numbers(rounds: Sequence[Round]) -> tuple[list[float], str]:
    return [float(one["number"]) for one in rounds], "round"


def _moved(rounds: Sequence[Round]) -> tuple[list[float], str]:
    """Return what had been moved by the end of each round, and what an axis of it says."""
    totals = list(accumulate(map(_bytes, rounds)))
    unit, name = bytes_unit(totals[-1] if totals else 0)
    return [total / unit for total in totals], f"{name} moved so far, both ways, by all clients"


def _curves(
    rounds: Sequence[Round], against: str, places: Sequence[float], x: str
) -> Iterator[Markup | None]:
    """Yield a card of the metric and one of the loss.

    Args:
        rounds: all of them.
        against: what they are drawn against, for the titles.
        places: where each is on the horizontal axis.
        x: what that axis says.
    """
    name = _metric(rounds)
    points = on_axis(name, [(places[at], value) for at, value in _values(rounds, name)])
    losses = [
        (at, one["loss"]) for at, one in zip(places, rounds, strict=True) if is_figure(one["loss"])
    ]
    of, key = f"of the average, as the clients found it, {against}.", against.replace(" ", "-")
    yield curve_card(
        *(f"Metric: {name}, {against}", metric_axis(name), _curve(points, _METRIC), f"{name} {of}"),
        key=f"metric-{key}",
        most=metric_most(name),
        x=x,
    )
    yield curve_card(
        *(f"Loss, {against}", "loss", _curve(losses, _LOSS), f"Validation loss {of}"),
        key=f"loss-{key}",
        x=x,
    )


def _curve(points: Sequence[Point], colour: int) -> list[Curve]:
    return [Curve(name="average", points=points, colour=colour)]


def _setting(history: History) -> Markup:
    rounds = history["rounds"]
    found = {
        "method": history["method"],
        "model": history["model"],
        "cut": history["cut"],
        "privacy of updates": history["privacy"] or "none",
        "rounds planned": count_said(history["rounds_planned"]),
        "clients known": count_said(history["clients_known"]),
        "began": f"{time_said(rounds[0]['began'])} UTC" if rounds else "",
        "last round ended": f"{time_said(rounds[-1]['ended'])} UTC" if rounds else "",
    }
    return card("The federation", pairs((name, said) for name, said in found.items() if said))
