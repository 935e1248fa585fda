"""What the cloud has of a step's gradients, and what the script has made of its share of them.

The script knows only stand-ins: what it does to them must come to pass there. It knows no session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sft_common.errors import ConfigError
from sft_edge.standin import StandIn


class Gradients:
    """The gradients of net2 in the step under way, by the groups of a script's optimizer.

    Args:
        stand_ins: of the groups.
        ask: asks the cloud for the norm of each group.
    """

    def __init__(self, stand_ins: Sequence[StandIn], ask: Callable[[], list[float]]) -> None:
        self._stand_ins, self._ask = stand_ins, ask
        self.begin()

    def begin(self) -> None:
        """Begin a step of which nothing has come."""
        self.waiting = set[int]()
        """Places of forward passes whose backward may come."""

        self.finite = True
        """Whether all gradients of logits were numbers."""

        self.drops = 0
        """How often gradients were forgotten."""

        self._there = set[int]()
        self._norms: list[float] | None = None
        for stand_in in self._stand_ins:
            stand_in.grad = None

    @property
    def any(self) -> bool:
        """Whether the script has any that it has not set to nothing."""
        return any(stand_in.factor is not None for stand_in in self._stand_ins)

    def check_waiting(self, place: int) -> None:
        """Refuse a backward pass whose forward pass is used up.

        Raises:
            ConfigError: says so.
        """
        if place not in self.waiting:
            raise ConfigError(
                "backward came twice for one forward pass: the cloud computes it once, and has "
                "dropped what it needs; run the forward pass again"
            )

    def came(self, place: int) -> None:
        """Note that the cloud has gradients, or more of them, by the backward of a forward pass."""
        self.waiting.remove(place)
        self._there = set(range(len(self._stand_ins)))
        self._norms = None
        for number, stand_in in enumerate(self._stand_ins):
            stand_in.backward_came(partial(self._norm, number))

    def forgotten(self) -> list[int]:
        """Return the groups of which the cloud has gradients, and the script has none any more."""
        return [number for number in self._there if not self._stand_ins[number].factor]

    def is_all(self, groups: Sequence[int]) -> bool:
        """Return whether that is all there is of the step: no other gradients, no passes."""
        return len(groups) == len(self._there) and not self.waiting

    def forget(self, groups: Sequence[int]) -> None:
        """Note that the cloud has forgotten gradients of some groups."""
        for number in groups:
            self._stand_ins[number].grad = None
        self._there -= set(groups)
        self.finite = self.finite or not self._there
        self.drops, self._norms = self.drops + 1, None

    def _norm(self, number: int) -> float:
        """Return the norm of a group; asks once after each backward."""
        if self._norms is None:
            self._norms = self._ask()
        return self._norms[number]
