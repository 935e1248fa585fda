"""What a cloud says of its times is looked at before it becomes a plan."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, zeros

from sft_common.config import ModelIdentity, ModelShape, SessionSpec, SplitSpec
from sft_common.errors import ProtocolError
from sft_edge.planner.cloud_rehearsal import _rehearsed, _Steps

SHAPE = ModelShape(blocks=4, hidden=32, feed_forward=64, positions=64, heads=4)
SPEC = SessionSpec(
    model=ModelIdentity(name="m"), split=SplitSpec(split_layer=1, rank=2), num_labels=2
)

UPDATE = 0.05
"""Seconds of the update of the cloud below, of which a message's way hides a part."""


class Paper:
    """A cloud on paper: a pass takes 1 ms a token; messages take 1 ms a token on their way."""

    def __init__(self, compute: float = 1e-3) -> None:
        self.traffic = SimpleNamespace(compute_seconds=0.0, queue_seconds=0.0)
        self._compute, self._updates, self._tokens = compute, False, [0]
        self.asked: list[str] = []

    def begin_forward(self, step: int, activation_TW: Tensor, *_: Any, exchange: int) -> None:
        self._tokens.append(len(activation_TW))
        self.asked.append(f"forward {step}.{exchange}")

    def begin_backward(self, step: int, *_: Any, tokens: int, exchange: int, **__: Any) -> None:
        self._tokens.append(tokens)
        self.asked.append(f"backward {step}.{exchange}")

    def end_forward(self) -> Tensor:
        tokens = self._tokens[-1]
        self.traffic.compute_seconds += self._compute * tokens
        if self._updates:
            self.traffic.queue_seconds += max(0.0, UPDATE - 1e-3 * tokens)
            self._updates = False
        return zeros(1)

    end_backward = end_forward

    def apply(self, step: int, *_: Any, exchanges: int) -> None:
        self.asked.append(f"apply {step}: {exchanges}")
        self._updates = True


def steps_of(paper: Paper) -> _Steps:
    return _Steps(paper, SPEC, SHAPE, keeps_labels=False)  # type: ignore[arg-type]


def test_an_update_is_what_the_smallest_message_waits_for_it() -> None:
    found = _rehearsed(steps_of(Paper()), [(2, 2), (30, 30)], lambda: False)
    assert found.update == pytest.approx(UPDATE - 2e-3)
    assert found.forward.of(9) == pytest.approx(9e-3)
    assert found.backward.of(9) == pytest.approx(9e-3)


def test_a_step_is_asked_to_be_applied_when_the_next_is_ready_to_go() -> None:
    paper = Paper()
    steps = steps_of(paper)
    steps.take([[1], [2]])
    steps.take([[3]])
    assert paper.asked == [
        *("forward 1.0", "forward 1.1", "backward 1.2", "backward 1.3"),
        *("apply 1: 4", "forward 2.0", "backward 2.1"),
    ]


@pytest.mark.parametrize("compute", [float("nan"), float("inf"), -1e-3])
def test_times_that_are_none_are_refused(compute: float) -> None:
    with pytest.raises(ProtocolError, match="these are no times"):
        steps_of(Paper(compute)).take([[1]])
