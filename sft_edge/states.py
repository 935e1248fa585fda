"""What a script's state says of the cloud's half: where it is kept, in numbers and strings alone.

The cloud writes its half under a name that is drawn here; who loads the state asks for that name.
It knows no optimizers.
"""

from __future__ import annotations

import dataclasses
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft_common.errors import ConfigError, SnapshotError
from sft_edge.client import GrpcSession

PREFIX = "sft_"
"""Of its entries in an optimizer's state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """Which state of the cloud's half belongs to one of the edge's."""

    steps: int
    """That both halves have taken."""

    session: str = ""
    """Its name; empty before anything was trained."""

    name: str = ""
    """Of the state there; before anything was trained, a digest of net2; empty: none was kept."""

    def facts(self) -> dict[str, int | str]:
        """Return its entries in an optimizer's state."""
        return {PREFIX + name: value for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> State:
        """Return what an optimizer's state says.

        Raises:
            ConfigError: nothing.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if PREFIX + name not in facts]:
            raise ConfigError(
                f"this state has no {PREFIX}{missing[0]}: an optimizer that was not split wrote it"
            )
        return cls(
            steps=int(facts[PREFIX + "steps"]),
            session=str(facts[PREFIX + "session"]),
            name=str(facts[PREFIX + "name"]),
        )


def new_state(session: GrpcSession, steps: int) -> State:
    """Have the cloud write its half; one that keeps nothing is warned of.

    Raises:
        SnapshotError: its disk does not take it; training can go on.
    """
    if not session.keeps_snapshots:
        warnings.warn(
            "the cloud was started with --no-save: it keeps nothing of its half beside this state, "
            "which cannot be loaded later",
            stacklevel=4,
        )
        return State(steps=steps, session=session.session_id)
    name = secrets.token_hex(8)
    if trouble := session.save(name):
        raise SnapshotError(f"the cloud could not write its half of step {steps}: {trouble}")
    return State(steps=steps, session=session.session_id, name=name)


def check_kept(state: State) -> None:
    """Refuse a state of which the cloud has nothing to go back to.

    Raises:
        ConfigError: says why.
    """
    if not state.session:
        raise ConfigError(
            "this state is of step 0, of which the cloud keeps nothing, and of other weights or "
            "another step than the session's; to begin anew, start the script anew"
        )
    if not state.name:
        raise ConfigError(
            f"this state is of step {state.steps}, of which the cloud kept nothing: it was started "
            "with --no-save"
        )
