"""What is gathered as rows is the gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sft_edge.row_tables import RowTables

CPU = torch.device("cpu")


@pytest.mark.parametrize("padding_idx", [None, 3])
def test_gathered_rows_are_the_gradient(padding_idx: int | None) -> None:
    net1 = nn.Sequential(nn.Embedding(50, 4, padding_idx=padding_idx), nn.Linear(4, 2))
    table = net1[0].weight
    parts = [torch.tensor([[1, 3, 3], [7, 1, 49]]), torch.tensor([[7, 3, 0]])]
    for part in parts:
        net1(part).square().sum().backward()
    assert table.grad is not None
    expected = table.grad.clone()
    table.grad = None
    tables = RowTables(net1, CPU)
    tables.gather(several=True)
    for part in parts:
        net1(part).square().sum().backward()
    assert table.grad.is_sparse
    tables.fill()
    assert not table.grad.is_sparse
    torch.testing.assert_close(table.grad, expected)


def test_one_micro_batch_is_as_it_was() -> None:
    net1 = nn.Sequential(nn.Embedding(50, 4))
    tables = RowTables(net1, CPU)
    for several in (True, False):
        tables.gather(several=several)
    net1(torch.tensor([1, 2])).sum().backward()
    gradient = net1[0].weight.grad
    assert not gradient.is_sparse
    tables.fill()
    assert net1[0].weight.grad is gradient
