"""SFTOptimizer: two lines that make a training script a split one (SFT, Listing 1).

It is the optimizer that the script sees; what it does is its role's business, which it finds by an
entry point, so that a machine needs only the half that it plays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

import torch
from torch import nn

from sft_common.errors import ConfigError

ROLES = "sft.roles"
"""Group of entry points: name of a role -> what makes a `Half`."""


class Half(Protocol):
    """One side of a script's training."""

    def step(self) -> None:
        """Step the script's optimizer, and the other half's."""

    def state(self) -> Mapping[str, int | str]:
        """Have the other half kept as it is; returns what is needed to find it again."""

    def go_to(self, facts: Mapping[str, Any]) -> None:
        """Have the other half go back to what `state` returned once, there with more entries."""

    def close(self) -> None:
        """End the session with the other side; safe to repeat."""


class SFTOptimizer(torch.optim.Optimizer):
    """A script's optimizer whose model is trained in two places.

    On the edge the model gives up what is above the cut; its forward asks the cloud for the rest.
    Groups, settings and states are those of the wrapped optimizer, so that schedulers and clipping
    see what they saw.

    Args:
        optimizer: of torch.optim, over the model's parameters; it has not stepped yet.
        model: of transformers, of a supported family, with one of the supported heads.
        role: "edge" (holds the data; goes on) or "cloud" (serves until its edge is done, and ends
            the script).
        server: the cloud's "host:port".
        split_layer: the block to cut, 1 is the lowest.
        rank: R, the numbers sent for a token; of no meaning with the cut "none".
        more: of the role, see `sft_edge.script.EdgeHalf`.

    Raises:
        ConfigError: model, optimizer or cut do not fit, or the role is not installed.
        SftError: the other side is not to be reached, or refuses.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        model: nn.Module,
        role: str,
        server: str,
        split_layer: int,
        rank: int = 8,
        **more: Any,
    ) -> None:
        make = _role(role)
        self._wrapped = optimizer
        self._half: Half = make(
            optimizer, model=model, server=server, split_layer=split_layer, rank=rank, **more
        )
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self._share()

    def _share(self) -> None:
        """Show the wrapped optimizer's own groups and states, not copies."""
        self.param_groups, self.state = self._wrapped.param_groups, self._wrapped.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step both halves with the gradients that have come since `zero_grad`.

        Raises:
            ConfigError: a closure was given; it would have to run the other half again.
        """
        if closure is not None:
            raise ConfigError("step takes no closure here: call loss.backward() before it")
        self._half.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped optimizer's state, and where the cloud keeps its half of this step.

        With the model's own `state_dict` it is a checkpoint. It holds nothing of net2 but its name.

        Raises:
            SnapshotError: the cloud's disk does not take its half.
        """
        return {**self._wrapped.state_dict(), **self._half.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state on both halves; gradients that have come are forgotten.

        It may be of this session or of another of the same script, whose place this one takes
        then. What cannot be loaded leaves both halves as they are.

        Raises:
            ConfigError: it is no state of both halves, or of others.
            SessionLostError: the cloud does not have its half any more.
            MismatchError: it is of another model, split or optimizer.
            SftError: the cloud is not to be reached, or has no room.
        """
        before = self._wrapped.state_dict()
        try:
            self._wrapped.load_state_dict(state_dict)
        except ValueError as error:
            raise ConfigError(
                f"this state is of another model, split or optimizer: {error}"
            ) from error
        try:
            self._half.go_to(state_dict)
        except BaseException:
            self._wrapped.load_state_dict(before)
            raise
        finally:
            self._share()

    def close(self) -> None:
        """End the session: the cloud keeps its half. At the script's end it is done anyway."""
        self._half.close()


def _role(name: str) -> Callable[..., Half]:
    """Return what makes the half of a role."""
    known = {point.name: point for point in entry_points(group=ROLES)}
    if name not in known:
        raise ConfigError(
            f"role {name!r} is not installed here; there is: {', '.join(sorted(known)) or 'none'}"
        )
    make: Callable[..., Half] = known[name].load()
    return make
