"""What a client has done in a try at a round. No RPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

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
