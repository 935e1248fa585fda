"""Where a federation starts from, whatever its method. It knows no models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from sft_cloud.federation.round import Update
from sft_cloud.federation.state import State
from sft_common.federation.tensors import Shapes


class Beginning(Protocol):
    """Where a federation starts from, and what its cuts need to know of the data first."""

    calibrations: tuple[str, ...]
    """Duties that come before the first round, in order."""

    def calibration_shapes(self, duty: str) -> Shapes:
        """Return what a calibration hands in."""

    def calibrated(self, duty: str, found: Mapping[str, Update], before: State) -> State:
        """Return the state once a calibration has come, by client, behind another."""

    def state(self) -> State:
        """Return the state before any calibration."""

    def save(self, state: State, folder: Path) -> None:
        """Write what a state makes of the model into an existing folder."""
