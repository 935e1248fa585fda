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
from torch.utils.hooks import RemovableHandle

from sft_common.model.adamw import RowsOfStep

PART = 2**20
"""Numbers of the table that are updated before anybody looks again whether waiting has ended."""

FEW = 1 / 32
"""Share of the table up to which rows are updated early. One row costs five in a part, so that more
would take the time that they are to save."""


class LateTable:
    """A table of embeddings, trained apart from an optimizer that it belongs to.

    Looked up in training, it first brings the rows up to date that are read; in evaluation all.

    Args:
        table: what to train, on a CPU or CUDA device; None: nothing.
        optimizer: holds the table and its moments.
        late: whether to put updates off; else the optimizer is left an ordinary gradient.
    """

    def __init__(
        self, table: nn.Embedding | None, optimizer: torch.optim.AdamW, *, late: bool = True
    ) -> None:
        self._table, self._optimizer, self._late = table, optimizer, late
        self._due: _Update | None = None
        self._early: list[tuple[Tensor, Tensor]] = []
        self._hook: RemovableHandle | None = None
        if table is not None:
            table.sparse = True  # a gradient of the rows that were read, not of all
            self._hook = table.register_forward_pre_hook(self._before_lookup)

    def close(self) -> None:
        """Let go of the table; an update that is due is given up. Safe to repeat.

        Until then the table holds this one, with the optimizer's moments.
        """
        if self._hook is not None:
            self._hook.remove()
        self._due = None
        self._early.clear()

    @torch.no_grad()
    def catch_up(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Go on with an update that is due.

        Args:
            enough: asked before each part; whether to stop for now.
        """
        if self._due is None:
            return
        while self._early:
            rows_K, before_KN = self._early.pop()
            self._due.weight[rows_K] = before_KN
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
        if self._table is None or self._table.weight.grad is None:
            return
        weight, gradient = self._table.weight, self._table.weight.grad
        weight.grad = None
        if self._late:
            self._due = _Update(weight, gradient, self._optimizer)
        else:
            weight.grad = gradient.to_dense()

    @torch.no_grad()
    def _before_lookup(self, table: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if self._due is None:
            return
        rows_K, weight = arguments[0].unique(), self._due.weight
        if not table.training or self._due.begun or len(rows_K) > FEW * len(weight):
            self.catch_up()
            return
        for known, _ in self._early:  # by other micro-batches
            rows_K = rows_K[~torch.isin(rows_K, known)]
        self._early.append((rows_K, weight[rows_K]))
        weight[rows_K] = self._due.result(rows_K)


class _Update:
    """One step of AdamW with a table.

    Args:
        weight: (V, N).
        gradient: of it, sparse.
        optimizer: it belongs to.
    """

    def __init__(self, weight: Tensor, gradient: Tensor, optimizer: torch.optim.AdamW) -> None:
        # One row for each token. They are added up in the order of the tokens, as ordinary backward
        # passes do it; `coalesce` has an order of its own.
        self._rows_R, place_T = gradient._indices()[0].unique(return_inverse=True)
        self._gradient_RN = weight.new_zeros(len(self._rows_R), weight.shape[1])
        self._gradient_RN.index_add_(0, place_T, gradient._values())
        self._next, count = 0, max(1, PART // weight.shape[1])
        self._gradient_of_part = weight.new_zeros(min(count, len(weight)), weight.shape[1])
        self.weight, self._step = weight, RowsOfStep(optimizer, weight)

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
