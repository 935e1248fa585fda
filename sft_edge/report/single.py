"""The page of one run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sft_common.report.figures import bytes_said, count_said, fewer_said, seconds_said
from sft_common.report.markup import Markup, element, joined
from sft_common.report.metrics import shown
from sft_common.report.page import card, cards, note, page, pairs, soft, tiles
from sft_edge.report.pictures import loss_card, metric_card, traffic_card, volume_card
from sft_edge.report.setting import date_of, machine_of, metrics_of, results_of, setting_of
from sft_edge.report.story import Story
from sft_edge.report.timing import time_card


def report_of(story: Story) -> str:
    """Return the page of a run."""
    pictures = (
        loss_card(story),
        metric_card(story),
        volume_card(story),
        time_card(story),
        traffic_card(story),
    )
    return page(
        f"{story.name}: split fine-tuning",
        element("h1", story.name),
        element("p", _headline(story), class_="soft"),
        *([] if story.finished else [note(_unfinished(story))]),
        tiles(_tiles(story)),
        cards(pictures),
        cards((_results(story), _machine(story), _setting(story))),
        _command(story),
        _footer(story),
    )


def _headline(story: Story) -> str:
    said = setting_of(story)
    words = [
        said.get("task", ""),
        said.get("model", ""),
        f"cut {said['cut']}" if "cut" in said else "",
        f"block {said['split layer']}" if "split layer" in said else "",
        f"rank {said['rank']}" if "rank" in said else "",
        said.get("encoding of activations", ""),
    ]
    return " · ".join(filter(None, words))


def _unfinished(story: Story) -> str:
    steps = [step for step, _ in story.curve("step", "loss")]
    where = f"up to step {count_said(steps[-1])}" if steps else "which holds no step yet"
    place = shlex.quote(str(story.path))
    if not story.start:
        later = "It ended early, as a run does whose loss is no number any more."
    elif story.job.get("frozen"):
        later = f"The cloud trains alone; when it is done: sft-edge fetch --run {place}"
    else:
        later = f"It goes on, or can: sft-edge train --resume {place}"
    return f"This run has not come to its end; this is its history, {where}. {later}"


def _tiles(story: Story) -> Iterator[tuple[str, str]]:
    metrics = metrics_of(story)
    if metrics:
        name, value = next(iter(metrics.items()))
        unsplit = story.number("unsplit", "value")
        beside = "" if unsplit is None else f"; unsplit {shown(name, unsplit)}"
        yield shown(name, value), f"{name}{beside}"
    up, down = story.number("bytes", "up"), story.number("bytes", "down")
    reduction = story.number("bytes", "reduction")
    if up is not None and down is not None:
        yield bytes_said(up + down), "moved, both ways"
    if reduction and reduction > 0:
        yield fewer_said(reduction), "bytes than plain split learning"
    total, steps = story.number("seconds", "total"), story.number("steps")
    if total is not None and steps:
        yield seconds_said(total), f"for {count_said(steps)} steps of {seconds_said(total / steps)}"


def _results(story: Story) -> Markup | None:
    rows = results_of(story)
    return card("The results", pairs(rows.items())) if rows else None


def _setting(story: Story) -> Markup | None:
    rows = setting_of(story)
    return card("The setting", pairs(rows.items())) if rows else None


def _machine(story: Story) -> Markup | None:
    rows = machine_of(story)
    return card("The machines", pairs(rows.items())) if rows else None


def _command(story: Story) -> Markup:
    title = "To repeat it"
    if not story.command:
        return card(title, soft("The version that trained this run did not keep its command."))
    again = any(part.startswith("--name") for part in story.command)
    named = " A run of this name is there already: give it another --name." * again
    words = (joined(" " * (n > 0), element("span", part)) for n, part in enumerate(story.command))
    remark = f"As it was given; paths are meant from the folder it was given in.{named}"
    return card(title, element("pre", *words), soft(remark))


def _footer(story: Story) -> Markup:
    said = [
        f"session {story.fact('session_id')}" if story.fact("session_id") else "",
        date_of(story),
        "drawn from metrics.json, history.jsonl and job.json by sft-edge report",
    ]
    return element("footer", " · ".join(filter(None, said)))
