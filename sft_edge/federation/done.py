"""What a client has done in a try at a round. No RPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from sft_common.errors import DataError
from sft_common.federation.averaging import Moments
from sft_common.federation.said import Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a client has done in a try at a round."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """What it trained or found."""

    weight: int = 0
    """Training examples behind it, or tokens."""

    session_id: str = ""
    """Whose net2 belongs to it."""

    finding: Finding | None = None
    """Of the average that it was given."""

    tells_finding: bool = True
    """Whether the cloud is told."""

    facts: Mapping[str, object] = field(default_factory=dict)
    """For the history: losses, examples kept."""

    @classmethod
    def calibration(cls, rows_TN: Tensor) -> Done:
        """Return mean and second moments of what a cut is to code, of T tokens.

        Raises:
            DataError: there are none.
        """
        if not len(rows_TN):
            raise DataError("the training part has no tokens")
        moments = Moments.of(rows_TN)
        tensors = {"mean": moments.mean, "scatter": moments.scatter}
        return cls(tensors=tensors, weight=moments.tokens)
