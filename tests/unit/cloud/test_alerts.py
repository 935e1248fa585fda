"""The alert rules and the table of metrics name what a cloud really tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml

from sft_cloud.exposition import CloudCollector
from sft_cloud.host import Host, Limits
from sft_cloud.scheduler import Scheduler

DOCS = Path(__file__).parents[3] / "docs"
RULES = DOCS / "operations" / "alerts.yml"
GUIDE = (DOCS / "operations.md").read_text("utf-8")

ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.fixture(scope="module")
def metrics() -> dict[str, tuple[str, ...]]:
    """Name of a metric, as it is asked for -> the names of its samples."""
    scheduler = Scheduler(1)
    host = Host(builder=cast(Any, None), scheduler=scheduler, limits=Limits())
    host.metrics.failed("INTERNAL", "InternalError")
    found = {}
    for family in CloudCollector(host, torch.device("cpu")).collect():
        endings = ENDINGS.get(family.type, ("",))
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = tuple(family.name + ending for ending in endings)
    scheduler.close()
    return found


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"], rule
        assert rule["expr"].count("(") == rule["expr"].count(")"), rule
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_alerts_ask_for_metrics_that_there_are(metrics: dict[str, tuple[str, ...]]) -> None:
    samples = {name for names in metrics.values() for name in names}
    asked = {name for rule in rules() for name in re.findall(r"\bsft_\w+", rule["expr"])}
    assert asked and asked <= samples, asked - samples


def test_the_guide_has_every_metric_and_every_alert(metrics: dict[str, tuple[str, ...]]) -> None:
    told = set(re.findall(r"`(sft_\w+)", GUIDE))
    assert told == set(metrics), told ^ set(metrics)
    missing = [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in GUIDE]
    assert not missing
