"""Several edges on one device: whose work comes first, and what runs while one of them is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from sft_common.config import SessionSpec, SplitSpec
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_edge.client import GrpcSession
from tests.processes import Cloud, run, running_cloud

LONG = 4096
"""Examples of a batch that takes the device for a while."""

AWAY = 0.5
"""Seconds by which one edge is slower than the others."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    place = tmp_path_factory.mktemp("cloud")
    more = ("--scheduling", "longest-first", "--save-dir", place / "sessions")
    with running_cloud(place, *more) as running:
        yield running


class Edge(GrpcSession):
    """Takes steps whose numbers do not matter."""

    def __init__(self, cloud: Cloud, model: Path) -> None:
        pretrained = Pretrained(model, num_labels=2)
        split = SplitSpec(cut="sft", split_layer=2, rank=4)
        spec = SessionSpec(model=pretrained.identity(str(model)), split=split, num_labels=2)
        super().__init__(Access(server=cloud.server), spec, shape_of(pretrained.config))
        self.step = 0

    def ask(self, examples: int = 2) -> None:
        """Begin a step."""
        self.step += 1
        lengths, labels = [4] * examples, [0] * examples
        self.begin_step(self.step, torch.ones(4 * examples, 4), lengths, labels)

    def end(self) -> None:
        """Wait for the answer of the step, and apply it."""
        self.end_step()
        self.apply(self.step, 1e-3)


def test_others_work_while_an_edge_is_between_forward_and_backward(
    cloud: Cloud, tiny_model: Path
) -> None:
    """What it computes meanwhile, the loss of labels that it keeps, holds nobody up."""
    with closing(Edge(cloud, tiny_model)) as away, closing(Edge(cloud, tiny_model)) as other:
        away.begin_forward(1, torch.ones(8, 4), [4, 4])
        logits = away.end_forward()
        for _ in range(3):
            other.ask()
            other.end()
        other.begin_forward(4, torch.ones(8, 4), [4, 4])
        other.end_forward()
        away.begin_backward(1, torch.ones_like(logits), forward=0, exchange=1, tokens=8)
        assert away.end_backward().shape == (8, 4)
        away.apply(1, 1e-3, exchanges=2)


def test_the_edge_that_is_slowest_by_itself_comes_first(cloud: Cloud, tiny_model: Path) -> None:
    """Nobody says how slow it is: the cloud has seen it."""
    with (
        closing(Edge(cloud, tiny_model)) as busy,
        closing(Edge(cloud, tiny_model)) as fast,
        closing(Edge(cloud, tiny_model)) as slow,
    ):
        for edge, seconds in ((slow, AWAY), (busy, 0.0), (fast, 0.0)):
            for _ in range(3):
                edge.ask()
                edge.end()
                time.sleep(seconds)
        busy.ask(4 * LONG)
        time.sleep(0.1)
        fast.ask(LONG)
        time.sleep(0.1)
        slow.ask()
        assert not busy.answered()  # or the others did not wait at the same time
        waited = [_queued(edge) for edge in (slow, fast)]
        busy.end()
        assert 0 < waited[0] < waited[1]  # behind fast's long step it would be the other way round


def _queued(edge: Edge) -> float:
    """End an edge's step; returns the seconds that it waited for the device."""
    before = edge.traffic.queue_seconds
    edge.end_step()
    return edge.traffic.queue_seconds - before


def test_status_names_the_rule(cloud: Cloud) -> None:
    said = run("sft-cloud", "status", "--once", "--save-dir", cloud.log.parent / "sessions")
    assert "waiting for the device (longest-first)" in said.stdout
