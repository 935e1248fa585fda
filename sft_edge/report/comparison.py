"""The page that shows several runs over and beside one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sft_common.report.charts import COLOURS, Curve, Lane, Segment, Titles, bar_chart, look_of
from sft_common.report.curves import curve_card, with_mean
from sft_common.report.figures import bytes_said
from sft_common.report.markup import Markup, element, joined
from sft_common.report.metrics import metric_axis, metric_most
from sft_common.report.page import (
    card,
    cards,
    curve_legend,
    hidden,
    legend,
    note,
    page,
    soft,
    swatch,
    table,
)
from sft_edge.report.pictures import metric_points
from sft_edge.report.setting import machine_of, results_of, setting_of
from sft_edge.report.story import Story
from sft_edge.report.timing import WAITS, time_chart, time_figures, waiting_lanes

Told = Callable[[Story], dict[str, str]]


def comparison_of(stories: Sequence[Story]) -> str:
    """Return the page of several runs."""
    names = _names(stories)
    unfinished = [name for name, story in zip(names, stories, strict=True) if not story.finished]
    curves = [Curve(name=name, points=(), colour=n) for n, name in enumerate(names)]
    return page(
        f"{len(stories)} runs: split fine-tuning",
        element("h1", f"{len(stories)} runs compared"),
        curve_legend(curves),
        *([note(f"Not at their end yet: {', '.join(unfinished)}")] if unfinished else []),
        cards(
            [
                _table("Results", names, stories, results_of),
                _differing(names, stories),
                _losses(names, stories, "step", "Training loss"),
                _losses(names, stories, "evaluation", "Validation loss"),
                *_metrics(names, stories),
                _volumes(names, stories),
                _times(names, stories),
            ]
        ),
        element("footer", "drawn from the runs' own files by sft-edge report"),
    )


def _names(stories: Sequence[Story]) -> list[str]:
    """Return what to call the runs: their folders, with those above where that is not enough."""
    counts = Counter(story.name for story in stories)
    return [story.name if counts[story.name] == 1 else str(story.path) for story in stories]


def _table(title: str, names: Sequence[str], stories: Sequence[Story], told: Told) -> Markup | None:
    return _side_by_side(title, names, [told(story) for story in stories])


def _differing(names: Sequence[str], stories: Sequence[Story]) -> Markup | None:
    found = [setting_of(story) | machine_of(story) for story in stories]
    keys = list(dict.fromkeys(key for one in found for key in one))
    apart = [key for key in keys if len({one.get(key) for one in found}) > 1]
    same = [key for key in keys if key not in apart]
    rows = hidden(
        "What is the same", table(["", "all runs"], [[k, found[0][k]] for k in same], "pair")
    )
    shared = rows if same else None
    if not apart:
        return card("What differs", soft("Nothing of the setting and the machines."), shared)
    kept = [{key: one[key] for key in apart if key in one} for one in found]
    return _side_by_side("What differs", names, kept, shared)


def _side_by_side(
    title: str, names: Sequence[str], found: Sequence[dict[str, str]], below: Markup | None = None
) -> Markup | None:
    keys = list(dict.fromkeys(key for one in found for key in one))
    if not keys:
        return None
    head = ["", *(joined(swatch(_look(n)), name) for n, name in enumerate(names))]
    rows = ([key, *(one.get(key, "–") for one in found)] for key in keys)
    return card(title, table(head, rows, "side"), below, wide=len(names) > 3)


def _look(number: int) -> str:
    return look_of(Curve(name="", points=(), colour=number))


def _losses(names: Sequence[str], stories: Sequence[Story], kind: str, title: str) -> Markup | None:
    curves: list[Curve] = []
    for number, (name, story) in enumerate(zip(names, stories, strict=True)):
        points = story.curve(kind, "loss")
        if kind == "step":
            curves += with_mean(name, points, number)[-1:]
        else:
            curves.append(Curve(name=name, points=points, colour=number))
    text = f"{title} of each run over its steps."
    return curve_card(title, "loss", curves, text, key=kind)


def _metrics(names: Sequence[str], stories: Sequence[Story]) -> list[Markup | None]:
    """Return a card for each metric that any run has."""
    metrics = dict.fromkeys(story.metric for story in stories if story.metric)
    found = []
    for number, metric in enumerate(metrics):
        curves = [
            Curve(name=name, points=metric_points(story, metric), colour=n)
            for n, (name, story) in enumerate(zip(names, stories, strict=True))
            if story.metric == metric
        ]
        text = f"{metric} on the validation examples of each run, over its steps."
        title = f"Metric: {metric}"
        axis, key, most = metric_axis(metric), f"metric-{number}", metric_most(metric)
        found.append(curve_card(title, axis, curves, text, key=key, most=most))
    return found


def _volumes(names: Sequence[str], stories: Sequence[Story]) -> Markup | None:
    """Return the bytes of a mean step of each run; the table has plain split learning, too."""
    bars, rows = [], []
    for number, (name, story) in enumerate(zip(names, stories, strict=True)):
        steps = story.number("steps")
        each = [story.number("bytes", way) for way in ("up", "down")]
        if not steps or None in each:
            continue
        moved = sum(value or 0.0 for value in each) / steps
        part = Segment(name=name, value=moved, look=f"c{number % COLOURS}")
        bars.append(Lane(name=name, said=bytes_said(moved), segments=[part]))
        plain = [story.number("bytes", f"split_learning_{way}") for way in ("up", "down")]
        beside = "–" if None in plain else bytes_said(sum(v or 0.0 for v in plain) / steps)
        rows.append([name, bytes_said(moved), beside])
    text = "Bytes of a mean step of each run, both ways, evaluations included."
    drawn = bar_chart(Titles(key="volume", title="Bytes per step", text=text), bars)
    if drawn is None:
        return None
    head = ["run", "bytes per step", "plain split learning"]
    return card(
        "Bytes per step", soft("Both ways, evaluations included."), drawn,
        hidden("The figures, and plain split learning", table(head, rows, "figures")),
    )  # fmt: skip


def _times(names: Sequence[str], stories: Sequence[Story]) -> Markup | None:
    lanes = waiting_lanes(stories, names)
    drawn = time_chart(lanes, "What a mean step of each run was spent on.")
    if drawn is None:
        return None
    return card(
        "Where a step's time went",
        soft("A mean step, evaluations included."),
        drawn,
        legend((look, name) for _, name, look in WAITS),
        time_figures(lanes),
    )
