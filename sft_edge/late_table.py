"""The words' table, most of what an edge trains, is updated while the edge waits for the cloud.

In a step of AdamW every row changes: its moments and its decay go on without a gradient. But only
rows that the next batch reads must have changed before it. They are brought up to date first, all
others later, part by part. The table ends as an ordinary step leaves it, to the last bit where
rows fill the processor's vectors (N a multiple of 16).

Legend: V words, N hidden width, R rows that had a gradient, K rows that are read.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sft_common.model.adamw import RowsOfStep

PART = 2**20
"""Numbers of the table that are updated before anybody looks again whether waiting has ended."""


class LateTable:
    """A table of embeddings, trained apart from an optimizer that it belongs to.

    Args:
        table: what to train; None: nothing.
        optimizer: holds the table and its moments; its own step leaves it alone.
    """

    def __init__(self, table: nn.Embedding | None, optimizer: torch.optim.AdamW) -> None:
        self._table, self._optimizer = table, optimizer
        self._due: _Update | None = None
        self._early: tuple[Tensor, Tensor] | None = None
        if table is not None:
            table.sparse = True  # a gradient of the rows that were read, not of all

    @torch.no_grad()
    def prepare(self, read: Tensor) -> None:
        """Bring the rows up to date that the next forward passes read.

        Args:
            read: their numbers, of any shape, some more than once.
        """
        if self._early is not None or (self._due is not None and self._due.begun):
            self.catch_up()  # of a step that was given up
        if self._due is not None:
            rows_K, weight = read.unique(), self._due.weight
            self._early = rows_K, weight[rows_K]
            weight[rows_K] = self._due.result(rows_K)

    @torch.no_grad()
    def catch_up(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Go on with an update that is due; no forward pass may follow before it is complete.

        Args:
            enough: asked before each part; whether to stop for now.
        """
        if self._due is None:
            return
        if self._early is not None:
            rows_K, before_KN = self._early
            self._due.weight[rows_K] = before_KN
            self._early = None
        while not self._due.complete:
            if enough():
                return
            self._due.go_on()
        self._due = None

    @torch.no_grad()
    def take(self) -> None:
        """Take the gradient that backward passes left; it is due with the optimizer's settings.

        The update before must be complete.
        """
        assert self._due is None
        if self._table is not None and self._table.weight.grad is not None:
            self._due = _Update(self._table.weight, self._optimizer)
            self._table.weight.grad = None


class _Update:
    """One step of AdamW with a table.

    Args:
        weight: (V, N), with a sparse gradient.
        optimizer: it belongs to.
    """

    def __init__(self, weight: Tensor, optimizer: torch.optim.AdamW) -> None:
        self.weight, self._step = weight, RowsOfStep(optimizer, weight)
        assert weight.grad is not None
        # Added up in the order of the tokens, as ordinary backward passes do.
        self._rows_R, place_T = weight.grad._indices()[0].unique(return_inverse=True)
        self._gradient_RN = weight.new_zeros(len(self._rows_R), weight.shape[1])
        self._gradient_RN.index_add_(0, place_T, weight.grad._values())
        self._next, count = 0, max(1, PART // weight.shape[1])
        self._gradient_of_part = weight.new_zeros(min(count, len(weight)), weight.shape[1])

    @property
    def begun(self) -> bool:
        """Whether some rows have it."""
        return self._next > 0

    @property
    def complete(self) -> bool:
        """Whether all rows have it."""
        return self._next == len(self.weight)

    def result(self, rows_K: Tensor) -> Tensor:
        """Return what some rows, in ascending order, will become, (K, N); none has it yet."""
        gradient_KN = self.weight.new_zeros(len(rows_K), self.weight.shape[1])
        has_one_K = torch.isin(rows_K, self._rows_R)
        place = torch.searchsorted(self._rows_R, rows_K[has_one_K])
        gradient_KN[has_one_K] = self._gradient_RN[place]
        return self._step.result(rows_K, gradient_KN)

    def go_on(self) -> None:
        """Update the next rows."""
        end = min(self._next + len(self._gradient_of_part), len(self.weight))
        low, high = torch.searchsorted(self._rows_R, torch.tensor([self._next, end])).tolist()
        rows = self._rows_R[low:high] - self._next
        self._gradient_of_part[rows] = self._gradient_RN[low:high]
        self._step.take(slice(self._next, end), self._gradient_of_part[: end - self._next])
        self._gradient_of_part[rows] = 0
        self._next = end
