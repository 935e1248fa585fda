"""Gradients of embeddings over several micro-batches. Pure torch."""

from __future__ import annotations

import torch
from torch import nn


class RowTables:
    """Tables of embeddings whose gradients are gathered as the few rows that a micro-batch uses.

    Else every micro-batch would make, and add up, a gradient of the whole table: 94 MB for the
    words of BERT-base.

    Args:
        net1: holds them.
        device: where it runs.
    """

    def __init__(self, net1: nn.Module, device: torch.device) -> None:
        able = device.type in ("cpu", "cuda")
        tables = (module for module in net1.modules() if isinstance(module, nn.Embedding))
        self._tables = [table for table in tables if able]

    def gather(self, *, several: bool) -> None:
        """Gather rows in the next backward passes, if there are several; one is as fast without."""
        for table in self._tables:
            table.sparse = several

    def fill(self) -> None:
        """Make ordinary gradients of what was gathered, for the optimizer."""
        for table in self._tables:
            gradient = table.weight.grad
            if gradient is not None and gradient.is_sparse:
                table.weight.grad = gradient.to_dense()
