"""What a federation has come to: its average, in the parts that different halves hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The average after some rounds; all by stock name."""

    clients: Tensors
    """What clients train and hand in."""

    given: Tensors = field(default_factory=dict)
    """What else they need of the cuts; it does not train."""

    cloud: Tensors = field(default_factory=dict)
    """net2, where the cloud trains it."""

    code: Tensors = field(default_factory=dict)
    """The cloud's share of the cuts, where it trains nothing."""

    def groups(self) -> dict[str, Tensors]:
        """Return the parts by name, as a snapshot keeps them."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, groups: Mapping[str, Tensors]) -> State:
        """Return the state that `groups` gave; parts without tensors may be missing."""
        return cls(**{name: dict(groups.get(name, {})) for name in cls.__slots__})
