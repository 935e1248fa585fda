"""A training over stored examples."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from sft_cloud.cache import ActivationCache
from sft_cloud.stored import train_stored
from sft_common.config import SplitSpec
from sft_common.errors import LimitError
from sft_common.plan import Plan
from tests.doubles import open_session


@pytest.mark.parametrize("part", [0, 1])
def test_a_plan_whose_batch_takes_too_much_memory_is_refused_before_anything_is_read(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """A peer may ask for all of its examples in one batch, in training or in evaluation."""
    session, _ = open_session(tiny_model, SplitSpec(split_layer=2, rank=4))
    with closing(ActivationCache(4, "float32", memory_bytes=10**9, limit_bytes=10**9)) as cache:
        cache.add(0, bytes(2 * 16), [2], [[1]])
        for _ in range(50):
            cache.add(part, bytes(6400 * 16), [64] * 100, [[0]] * 100)
        asked = []
        read = cache.batch

        def counted(part: int, rows: list[int]) -> object:
            asked.append((part, len(rows)))
            return read(part, rows)

        monkeypatch.setattr(cache, "batch", counted)
        plan = Plan(epochs=1, batch_size=2**40, learning_rate=1e-3, seed=0)
        with pytest.raises(LimitError, match=r"a batch of 500\d examples padded to 64 tokens"):
            list(train_stored(session, cache, plan))
    assert asked == ([] if part == 0 else [(0, 1)])
