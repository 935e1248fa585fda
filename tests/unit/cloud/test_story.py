"""What is told of a training is told again by the next process, to the bit."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from sft_cloud.story import Event, Judged, Stepped, as_tensors, of_tensors

counts = st.integers(0, 2**40)
numbers = st.floats(allow_nan=False, width=64)
steps = st.builds(Stepped, counts, counts, numbers, numbers)
shapes = st.sampled_from([(3, 2), (1, 1), (5,), (0, 2)])
verdicts = shapes.map(lambda shape: torch.arange(float(torch.Size(shape).numel())).view(shape))
judged = st.builds(Judged, counts, st.integers(1, 9), verdicts)


def plain(event: Event) -> list[object]:
    fields = [getattr(event, name) for name in event.__slots__]
    return [(f.shape, f.tolist()) if isinstance(f, Tensor) else f for f in fields]


@given(st.lists(steps | judged, max_size=30))
def test_events_come_back_from_a_file(events: list[Event]) -> None:
    again = of_tensors(load(save(as_tensors(events))))
    assert [type(event) for event in again] == [type(event) for event in events]
    assert list(map(plain, again)) == list(map(plain, events))
