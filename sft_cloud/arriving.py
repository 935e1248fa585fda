"""Parameters of net2 that come from an edge that has them all, before the first step.

It knows no steps and no messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sft_common.errors import MismatchError, ProtocolError
from sft_common.model.identity import digest_of


class Arriving:
    """What of net2 is still to come, in rows.

    Args:
        parameters: gives those of net2 themselves, by stock name.
    """

    def __init__(self, parameters: Callable[[], Mapping[str, Tensor]]) -> None:
        self._parameters = parameters
        self.rows: dict[str, int] = {}
        """Rows that have come of each parameter that was asked for."""

    @property
    def wanted(self) -> list[str]:
        """Names of the parameters that the edge is to send."""
        return [*self.rows]

    def expect(self, known: Mapping[str, bytes]) -> None:
        """Ask for what the edge has otherwise than net2.

        Args:
            known: of every parameter that the edge has: name -> digest (`digest_of`).

        Raises:
            MismatchError: those are not the parameters of net2.
        """
        mine = self._parameters()
        if other := sorted(known.keys() ^ mine.keys()):
            there = "the edge has no" if other[0] in mine else "net2 has no"
            raise MismatchError(
                f"edge and cloud do not mean the same net2: {there} {other[0][:200]!r}, and "
                f"{len(other) - 1} more differ; give both the same model and cut"
            )
        self.rows = {name: 0 for name, weight in mine.items() if digest_of(weight) != known[name]}

    def shape_of(self, name: str) -> torch.Size:
        """Return the shape of a parameter of which rows may come.

        Raises:
            ProtocolError: none of that name was asked for.
        """
        if name not in self.rows:
            raise ProtocolError(f"weights of {name[:200]!r} came, which were not asked for")
        return self._parameters()[name].shape

    def take(self, name: str, first: int, rows: Tensor) -> None:
        """Take rows of a parameter, (K, ...), as the edge has them; those that are there stay.

        Raises:
            ProtocolError: rows are missing before them, or none may come.
        """
        weight, there = self._parameters()[name], self.rows[name]
        end = first + len(rows)
        if first > there or end > len(weight):
            raise ProtocolError(
                f"rows {first} to {end} of {name} came; {there} of {len(weight)} are there"
            )
        with torch.no_grad():
            weight[there:end].copy_(rows[there - first :])
        self.rows[name] = max(there, end)

    def check_complete(self) -> None:
        """Refuse to compute with a net2 of which parts are still to come.

        Raises:
            ProtocolError: some are.
        """
        if not self.rows:
            return
        parameters = self._parameters()
        if late := [name for name, rows in self.rows.items() if rows < len(parameters[name])]:
            raise ProtocolError(f"weights of {len(late)} parameters have not come: {late[0]}")
