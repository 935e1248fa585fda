"""A training over stored examples."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import torch

from sft_cloud.answers import store
from sft_cloud.cache import ActivationCache
from sft_cloud.stored import train_stored
from sft_common.config import SplitSpec
from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.plan import Plan
from sft_common.wire.codec import tensor_to_parts
from tests.doubles import open_session


def test_a_verdict_that_no_message_could_carry_ends_the_training(tiny_model: Path) -> None:
    split = SplitSpec(split_layer=2, rank=4)
    session, _ = open_session(
        tiny_model, split, head="token-classification", num_labels=9, message_bytes=4 * 9 * 64
    )
    with closing(ActivationCache(4, "float32", limit_bytes=10**9)) as cache:
        cache.add(0, bytes(2 * 16), [2], [[1, 2]])
        cache.add(1, bytes(65 * 16), [64, 1], [])
        plan = Plan(epochs=1, batch_size=2, learning_rate=1e-3, seed=0)
        with pytest.raises(LimitError, match=r"2 examples with 65 tokens would take 2,340 bytes"):
            list(train_stored(session, cache, plan))


def test_examples_that_are_not_finite_are_not_stored(tiny_model: Path) -> None:
    session, _ = open_session(tiny_model, SplitSpec(split_layer=2, rank=4))
    tensor, numbers = tensor_to_parts(torch.full((2, 4), torch.inf))
    message = pb.Store(activation=tensor, lengths=[2], labels=[1])
    with closing(ActivationCache(4, "float32", limit_bytes=10**9)) as cache:
        with pytest.raises(ProtocolError, match=r"activation holds inf at \(0, 0\)"):
            store(session, cache, message, numbers)
        assert not cache.examples(0)


@pytest.mark.parametrize("part", [0, 1])
def test_a_plan_whose_batch_takes_too_much_memory_is_refused_before_anything_is_read(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """A peer may ask for all of its examples in one batch, in training or in evaluation."""
    session, _ = open_session(tiny_model, SplitSpec(split_layer=2, rank=4))
    with closing(ActivationCache(4, "float32", limit_bytes=10**9)) as cache:
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
