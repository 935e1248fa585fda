"""What a run was asked to do, where, and what came of it, as names and values. It draws nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sft_common.report.figures import bytes_said, count_said, fewer_said, seconds_said
from sft_common.report.metrics import shown
from sft_edge.report.story import Story

SETTING = {
    "task": "task",
    "model": "model",
    "cut": "cut",
    "split_layer": "split layer",
    "rank": "rank",
    "decoder_layers": "decoder layers",
    "edge": "edge",
    "labels_on": "labels on",
    "encoding": "encoding of activations",
    "gradient_encoding": "encoding of gradients",
    "micro_batches": "micro-batches",
    "epochs": "epochs",
    "max_steps": "most steps",
    "batch_size": "examples a step",
    "learning_rate": "learning rate, peak",
    "group_by_length": "grouped by length",
    "examples": "training examples",
    "evaluated_examples": "validation examples",
    "seed": "seed",
}
"""Keys of metrics.json, and of the options of a run that goes on, by what they are called here."""


def setting_of(story: Story) -> dict[str, str]:
    """Return what is known of the setting, by its name."""
    found = {name: _said(story.fact(key)) for key, name in SETTING.items()}
    classes = story.fact("labels")
    if isinstance(classes, list) and classes:
        found["classes"] = ", ".join(map(str, classes[:20])) + (", …" if len(classes) > 20 else "")
    return {name: value for name, value in found.items() if value}


def _said(value: Any) -> str:
    """Return a value as people write it; nothing for what is not there or is no plain value."""
    match value:
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case _:
            return ""


def machine_of(story: Story) -> dict[str, str]:
    """Return what is known of the machines, by its name."""
    memory = story.number("machine", "memory_bytes")
    found = {
        "edge: system": _said(story.fact("machine", "system")),
        "edge: processor": _said(story.fact("machine", "processor")),
        "edge: processors": _said(story.fact("machine", "processors")),
        "edge: threads": _said(story.fact("machine", "threads")),
        "edge: memory": bytes_said(memory) if memory else "",
        "edge: device of net1": _said(story.fact("machine", "device")),
        "cloud: device of net2": _said(story.fact("cloud_device")),
    }
    versions = story.fact("versions")
    for name, version in versions.items() if isinstance(versions, dict) else ():
        found[f"edge: {name}"] = _said(version)
    return {name: value for name, value in found.items() if value}


def results_of(story: Story) -> dict[str, str]:
    """Return what is known of the outcome, by its name."""
    return {name: value for name, value in _results(story) if value}


def _results(story: Story) -> Iterator[tuple[str, str]]:
    for name, value in metrics_of(story).items():
        yield name, shown(name, value)
    if (unsplit := story.number("unsplit", "value")) is not None:
        name = str(story.fact("unsplit", "name"))
        yield f"{name}, unsplit", shown(name, unsplit)
    steps = story.number("steps")
    loss = story.number("validation_loss")
    yield "validation loss", "" if loss is None else f"{loss:.4f}"
    yield "steps", "" if steps is None else count_said(steps)
    for way, name in (("up", "sent up"), ("down", "sent down")):
        moved = story.number("bytes", way)
        yield name, "" if moved is None else bytes_said(moved)
    fewer = story.number("bytes", "reduction")
    yield "beside plain split learning", fewer_said(fewer) if fewer and fewer > 0 else ""
    total = story.number("seconds", "total")
    yield "time in total", "" if total is None else seconds_said(total)
    yield "time of a step", seconds_said(total / steps) if total is not None and steps else ""
    peak = story.number("peak_rss_bytes", "edge")
    yield "most memory used", bytes_said(peak) if peak else ""
    yield "date", date_of(story)


def date_of(story: Story) -> str:
    """Return when the run came to its end, to the minute; nothing if that is not known."""
    date = _said(story.fact("date"))
    return f"{date[:10]} {date[11:16]} UTC" if date.endswith("+00:00") else date


def metrics_of(story: Story) -> dict[str, float]:
    """Return the last metrics, the task's own first; of an unfinished run the last evaluation's."""
    name = story.metric
    if name is None:
        return {}
    first = story.number("metric", "value")
    if first is None:
        values = story.curve("evaluation", "value")
        first = values[-1][1] if values else None
    found = {} if first is None else {name: first}
    others = story.fact("metrics")
    for other in others if isinstance(others, dict) else ():
        if other != name and (value := story.number("metrics", other)) is not None:
            found[other] = value
    return found
