"""A training over stored examples."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import torch

from sft_cloud.answers import store
from sft_cloud.cache import ActivationCache
from sft_cloud.session import Session
from sft_cloud.store import Store
from sft_cloud.stored import train_stored
from sft_cloud.story import Event, judged_behind
from sft_cloud.training_files import TrainingFiles
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


def filled(cache: ActivationCache) -> ActivationCache:
    """Keep eleven examples to train on, and three and two to evaluate."""
    draw = torch.Generator().manual_seed(2)
    for part, count in ((0, 11), (1, 3), (2, 2)):
        lengths = [1 + n % 3 for n in range(count)]
        tensor, numbers = tensor_to_parts(torch.randn(sum(lengths), 4, generator=draw))
        cache.add(part, numbers, lengths, [] if part else [[n % 2] for n in range(count)])
    return cache


def test_a_training_goes_on_from_every_event_as_if_nothing_had_been(
    tiny_model: Path, tmp_path: Path
) -> None:
    """With dropout; through files, into a session that is made anew."""
    split = SplitSpec(split_layer=2, rank=4)
    plan = Plan(epochs=2, batch_size=4, learning_rate=1e-3, seed=0)
    store = Store(tmp_path)
    told, taken_up = list[Event](), list[tuple[Session, int]]()
    with closing(filled(ActivationCache(4, "float32", limit_bytes=10**9))) as cache:
        session, _ = open_session(tiny_model, split, dropout=0.1)
        for event in train_stored(session, cache, plan):
            told.append(event)
            files = TrainingFiles(store, f"{len(told):016x}")
            files.keep(session, told, 0.5, 2)
            reached = files.reached()
            assert list(map(repr, reached.events)) == list(map(repr, told))
            again, _ = open_session(tiny_model, split, dropout=0.1)
            again.restore(reached.snapshot)
            taken_up.append((again, judged_behind(reached.events, again.applied)))
        assert [judged for _, judged in taken_up] == [0, 0, 0, 1, 2] * 2
        for count, (again, judged) in enumerate(taken_up, start=1):
            rest = train_stored(again, cache, plan, judged)
            assert list(map(repr, rest)) == list(map(repr, told[count:]))
            for name, weight in session.weights().items():
                assert torch.equal(weight, again.weights()[name]), (count, name)
