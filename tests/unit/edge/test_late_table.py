"""A table that is updated late and in parts ends as one that is updated at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sft_common.config import OptimizerSpec
from sft_common.model.adamw import adamw, set_learning_rate
from sft_edge import late_table
from sft_edge.late_table import LateTable

WORDS, WIDTH = 50, 16

PARTS = 9
"""Updates of a table of 50 words with 6 rows each."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_table, "PART", 6 * WIDTH)
    monkeypatch.setattr(late_table, "FEW", 1.0)


def net(padding_idx: int | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    table = nn.Embedding(WORDS, WIDTH, padding_idx=padding_idx)
    return nn.Sequential(table, nn.Tanh(), nn.Linear(WIDTH, 1))


def table_of(net1: nn.Sequential) -> nn.Embedding:
    table = net1[0]
    assert isinstance(table, nn.Embedding)
    return table


def after(polls: int) -> Callable[[], bool]:
    """Return an `enough` that says so from its n-th call on."""
    left = iter(range(polls))
    return lambda: next(left, None) is None


Step = list[list[int]]
"""The words of each micro-batch."""


def rate_of(number: int) -> float:
    return 1e-2 / (1 + number)


def learn_at_once(net1: nn.Sequential, steps: list[Step]) -> list[Tensor]:
    optimizer = adamw(net1, OptimizerSpec())
    outputs = []
    for number, parts in enumerate(steps):
        optimizer.zero_grad()
        for output in [net1(torch.tensor(part)) for part in parts]:
            outputs.append(output.detach())
            output.square().sum().backward()
        set_learning_rate(optimizer, rate_of(number))
        optimizer.step()
    return outputs


def learn_late(net1: nn.Sequential, steps: list[Step], polls: list[int]) -> list[Tensor]:
    """Learn with interruptions: `polls` parts of an update between two backward passes."""
    optimizer = adamw(net1, OptimizerSpec())
    table = LateTable(table_of(net1), optimizer)
    outputs = []
    waits = iter(polls)
    for number, parts in enumerate(steps):
        optimizer.zero_grad()
        for output in [net1(torch.tensor(part)) for part in parts]:
            outputs.append(output.detach())
            table.catch_up(after(next(waits, 0)))
            output.square().sum().backward()
        table.catch_up()
        set_learning_rate(optimizer, rate_of(number))
        table.take()
        optimizer.step()
    table.catch_up()
    return outputs


micro_batches = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=8)


@given(
    steps=st.lists(st.lists(micro_batches, min_size=1, max_size=3), min_size=1, max_size=4),
    polls=st.lists(st.integers(0, PARTS + 1), max_size=12),
    padding_idx=st.sampled_from([None, 0, 3]),
)
def test_late_is_as_at_once(steps: list[Step], polls: list[int], padding_idx: int | None) -> None:
    whole, late = net(padding_idx), net(padding_idx)
    expected = learn_at_once(whole, steps)
    found = learn_late(late, steps, polls)
    single = all(len(parts) == 1 for parts in steps)  # else sums are in another order
    tolerance = 0.0 if single else 1e-6
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)
    for mine, theirs in zip(late.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=10 * tolerance)


def test_only_what_is_read_changes_before_it_is_waited_for() -> None:
    net1 = net()
    optimizer = adamw(net1, OptimizerSpec())
    table, weight = LateTable(table_of(net1), optimizer), table_of(net1).weight
    start = weight.detach().clone()

    def changed() -> list[int]:
        return (weight != start).any(dim=1).nonzero().flatten().tolist()

    net1(torch.tensor([4, 40])).sum().backward()
    set_learning_rate(optimizer, 1e-2)
    table.take()
    assert weight.grad is None
    assert changed() == []
    net1(torch.tensor([[40, 7], [7, 7]]))
    assert changed() == [7, 40]  # 7 decays
    net1(torch.tensor([7, 3]))
    assert changed() == [3, 7, 40]
    table.catch_up(after(1))
    assert changed() == list(range(6))  # the rest is at its beginning again
    table.catch_up(after(0))
    assert changed() == list(range(6))
    table.catch_up()
    assert changed() == list(range(WORDS))


def test_a_step_that_was_given_up_leaves_nothing_undone() -> None:
    """The one before is complete when the next begins, however far it had come."""
    for polls in (None, 0, 3, PARTS):
        net1, twin = net(), net()
        learn_at_once(twin, [[[1, 2]], [[3]]])
        optimizer = adamw(net1, OptimizerSpec())
        table = LateTable(table_of(net1), optimizer)
        for number, words in enumerate(([1, 2], [3])):
            optimizer.zero_grad()
            net1(torch.tensor([9, 1]))  # in a step that fails at once, or while it waits
            if polls is not None:
                table.catch_up(after(polls))
            net1(torch.tensor(words)).square().sum().backward()
            table.catch_up()
            set_learning_rate(optimizer, rate_of(number))
            table.take()
            optimizer.step()
        table.catch_up()
        assert torch.equal(table_of(net1).weight, table_of(twin).weight)


def test_evaluation_sees_all_rows_up_to_date() -> None:
    for polls in (None, 0, 3):
        net1, twin = net(), net()
        learn_at_once(twin, [[[1, 2]]])
        optimizer = adamw(net1, OptimizerSpec())
        table = LateTable(table_of(net1), optimizer)
        net1(torch.tensor([1, 2])).square().sum().backward()
        set_learning_rate(optimizer, rate_of(0))
        table.take()
        optimizer.step()
        if polls is not None:
            net1(torch.tensor([4]))
            table.catch_up(after(polls))
        net1.eval()
        every = torch.arange(WORDS)
        assert torch.equal(net1(every), twin(every))
        assert torch.equal(table_of(net1).weight, table_of(twin).weight)


def test_many_rows_are_updated_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_table, "FEW", 2 / WORDS)
    for words, changed in (([5, 6, 5], [5, 6]), ([5, 6, 7], list(range(WORDS)))):
        net1 = net()
        optimizer = adamw(net1, OptimizerSpec())
        table, weight = LateTable(table_of(net1), optimizer), table_of(net1).weight
        start = weight.detach().clone()
        net1(torch.tensor([1])).sum().backward()
        set_learning_rate(optimizer, 1e-2)
        table.take()
        net1(torch.tensor(words))
        assert (weight != start).any(dim=1).nonzero().flatten().tolist() == changed


def test_moments_are_the_optimizers() -> None:
    """Its state can be kept and given back like any other."""
    states = []
    for late in (True, False):
        net1 = net()
        optimizer = adamw(net1, OptimizerSpec())
        table = LateTable(table_of(net1) if late else None, optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            net1(torch.tensor([5, 6])).square().sum().backward()
            table.catch_up()
            set_learning_rate(optimizer, 1e-2)
            table.take()
            optimizer.step()
        table.catch_up()
        states.append(optimizer.state_dict())
    mine, theirs = states
    assert mine["param_groups"] == theirs["param_groups"]
    assert mine["state"].keys() == theirs["state"].keys()
    for number, state in mine["state"].items():
        assert state.keys() == theirs["state"][number].keys()
        for name, value in state.items():
            assert torch.equal(value, theirs["state"][number][name]), (number, name)


@pytest.mark.parametrize("padding_idx", [None, 3])
def test_what_is_not_put_off_is_an_ordinary_gradient(padding_idx: int | None) -> None:
    net1, twin = net(padding_idx), net(padding_idx)
    table = LateTable(table_of(net1), adamw(net1, OptimizerSpec()), late=False)
    for part in (torch.tensor([[1, 3, 3], [7, 1, 49]]), torch.tensor([[7, 3, 0]])):
        for each in (net1, twin):
            each(part).square().sum().backward()
    weight = table_of(net1).weight
    assert weight.grad is not None
    assert weight.grad.is_sparse
    table.take()
    table.catch_up()
    assert not weight.grad.is_sparse
    torch.testing.assert_close(weight.grad, table_of(twin).weight.grad)
    assert torch.equal(weight, table_of(twin).weight)


def test_a_table_that_is_let_go_keeps_nothing_and_changes_no_more() -> None:
    """Others train it next: numbers of its own would fall on theirs, and moments would add up."""
    net1 = net()
    optimizer = adamw(net1, OptimizerSpec())
    table, weight = LateTable(table_of(net1), optimizer), table_of(net1).weight
    net1(torch.tensor([4, 40])).sum().backward()
    set_learning_rate(optimizer, 1e-2)
    table.take()
    table.close()
    start, held = weight.detach().clone(), weakref.ref(optimizer)
    net1(torch.tensor([4, 7]))
    net1.eval()
    net1(torch.tensor([4, 7]))
    table.catch_up()
    assert torch.equal(weight, start)
    del optimizer, table
    assert held() is None


def test_without_a_table_nothing_happens() -> None:
    net1 = net()
    table = LateTable(None, adamw(net1, OptimizerSpec()))
    net1(torch.tensor([1])).sum().backward()
    table.take()
    table.catch_up()
    gradient = table_of(net1).weight.grad
    assert gradient is not None
    assert not gradient.is_sparse
