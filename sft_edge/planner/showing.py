"""Plans as a table, as lines and as JSON, and the command that carries the best one out."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sft_common.report.figures import bytes_said, seconds_said
from sft_edge.planner.choice import Choice, shortlist
from sft_edge.planner.forecasting import Forecast
from sft_edge.planner.scene import Scene, Work
from sft_edge.planner.setting import Setting

COLUMNS = (
    "a step", "one by one", "idle", "cut", "block", "rank", "encoding", "parts", "up + down",
    "memory", "loses at most",
)  # fmt: skip

TEXTS = ("cut", "encoding")

OF_PLANS = ("auto", "max_accuracy_loss", "memory", "json", "quiet")
"""Options of `sft-edge train` that say which plan to take, or here how to show it."""

WIDTH = 100
"""Columns of a terminal that the table takes; a narrower one folds it."""


def print_plans(scene: Scene, choice: Choice, *, most: int, max_loss: float) -> None:
    """Print what was found, the best plans, and what else one could do."""
    console = Console()
    console.width = max(console.width, WIDTH)
    for line in scene_lines(scene):
        console.print(Text(line), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="")
    for name in COLUMNS:
        table.add_column(name, no_wrap=True, justify="left" if name in TEXTS else "right")
    for plan in shortlist(choice.ranked, most):
        table.add_row(*_cells(plan))
    console.print(table)
    for line in _rest_lines(scene, choice, max_loss):
        console.print(Text(line), soft_wrap=True)


def scene_lines(scene: Scene) -> list[str]:
    """Return what the plans were made for."""
    link, tokens = scene.link, round(scene.tokens)
    batch = f"{len(scene.batches[0])} examples, {tokens} tokens"
    return [
        f"model  {scene.sizes.name}, {scene.sizes.blocks} blocks; a mean batch: {batch}",
        f"link   {_rate(link.up_bytes_per_second)} up, {_rate(link.down_bytes_per_second)} down, "
        f"round trip {seconds_said(link.round_trip_seconds)}",
        f"edge   {scene.edge.name}: {_block(scene.edge.block, tokens)}, "
        f"{bytes_said(scene.edge.memory_bytes)} free",
        f"cloud  {scene.cloud.name}: {_block(scene.cloud.block, tokens)}, "
        f"{bytes_said(scene.cloud.memory_bytes)} free",
    ]


def command_for(setting: Setting, given: Mapping[str, Any], known: argparse.Namespace) -> str:
    """Return the command that trains as a plan says.

    Args:
        setting: the plan.
        given: options of `sft-edge train` that are said anyway.
        known: what `sft-edge train` does where nothing is said.
    """
    words = ["sft-edge", "train"]
    chosen = {
        "cut": setting.cut,
        "split_layer": setting.split_layer,
        "rank": setting.rank or None,
        "encoding": setting.encoding,
        "micro_batches": setting.micro_batches,
    }
    others = {name: value for name, value in given.items() if name not in OF_PLANS}
    for name, value in {**others, **chosen}.items():
        usual = getattr(known, name, None)
        if not hasattr(known, name) or value in (None, usual) or callable(value):
            continue
        option = "--" + name.replace("_", "-")
        for each in value if isinstance(value, list) else [value]:
            words += [option] if each is True else [option, str(each)]
    return shlex.join(words)


def facts_of(scene: Scene, choice: Choice, command: str | None) -> dict[str, Any]:
    """Return all of it as JSON can say it."""
    yard = choice.yardsticks
    return {
        "model": scene.sizes.name,
        "link": {
            "up_bytes_per_second": scene.link.up_bytes_per_second,
            "down_bytes_per_second": scene.link.down_bytes_per_second,
            "round_trip_seconds": scene.link.round_trip_seconds,
        },
        "plans": [plan_facts(plan) for plan in choice.ranked],
        "left_out": {
            "too_large": choice.too_large,
            "too_risky": [plan_facts(plan) for plan in choice.too_risky],
        },
        "local": {"seconds": yard.local_seconds, "edge_bytes": yard.local_bytes},
        "plain_split_learning": {
            "seconds": yard.plain_seconds,
            "split_layer": yard.plain_layer,
            "bytes_each_way": yard.plain_bytes,
        },
        "command": command,
    }


def plan_facts(plan: Forecast) -> dict[str, Any]:
    """Return a plan as JSON can say it; seconds and bytes are those of a mean step."""
    return {
        **plan.setting._asdict(),
        "rank": plan.setting.rank or None,
        "seconds": plan.seconds,
        "in_turn_seconds": plan.in_turn_seconds,
        "waiting_seconds": plan.waiting_seconds,
        "bytes_up": plan.bytes_up,
        "bytes_down": plan.bytes_down,
        "edge_bytes": plan.edge_bytes,
        "cloud_bytes": plan.cloud_bytes,
        "known_loss_points": plan.risk.points,
        "known_from": list(plan.risk.tasks),
    }


def _cells(plan: Forecast) -> list[str]:
    setting = plan.setting
    return [
        seconds_said(plan.seconds),
        seconds_said(plan.in_turn_seconds),
        f"{plan.waiting_seconds / plan.seconds:.0%}",
        setting.cut,
        str(setting.split_layer),
        str(setting.rank or ""),
        setting.encoding,
        str(setting.micro_batches),
        bytes_said(plan.bytes_up + plan.bytes_down),
        bytes_said(plan.edge_bytes),
        "not known" if plan.risk.points is None else f"{plan.risk.points:.1f}",
    ]


def _rest_lines(scene: Scene, choice: Choice, max_loss: float) -> list[str]:
    yard = choice.yardsticks
    fits = "" if yard.local_bytes <= scene.edge.memory_bytes else ", which this device has not"
    lines = [
        f"the whole model on the edge: {seconds_said(yard.local_seconds)} a step, "
        f"{bytes_said(yard.local_bytes)} of memory{fits}",
        f"plain split learning, at best in block {yard.plain_layer}: "
        f"{seconds_said(yard.plain_seconds)} a step, {bytes_said(2 * yard.plain_bytes)} up + down",
    ]
    if choice.too_large:
        lines.append(f"{choice.too_large} plans left out: they do not fit into memory")
    if choice.too_risky:
        first = choice.too_risky[0]
        lines.append(
            f"{len(choice.too_risky)} plans left out, the fastest {seconds_said(first.seconds)} a "
            f"step: not known to lose at most {max_loss:g} points of accuracy; more may be lost "
            "with --max-accuracy-loss"
        )
    return lines


def _rate(bytes_per_second: float) -> str:
    megabits = bytes_per_second * 8e-6
    return f"{megabits:,.0f} Mbit/s" if megabits >= 100 else f"{megabits:.3g} Mbit/s"


def _block(work: Work, tokens: int) -> str:
    forward, backward = (seconds_said(line.of(tokens)) for line in (work.forward, work.backward))
    return f"a block takes {forward} forward, {backward} backward"
