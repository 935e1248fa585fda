"""What a client does in a round, whatever the method; and the methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from sft_common.federation.said import Attempt, Finding
from sft_common.federation.tensors import Shapes
from sft_edge.federation.done import Done
from sft_edge.federation.material import Check


class Method(Protocol):
    """A client's way to train: one of `sft_common.federation.plan.METHODS`."""

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of what the cloud gives a client: the average, and more of the cuts."""

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin from an average."""

    def begin(self, at: Attempt) -> None:
        """Get ready for a try at a round."""

    def evaluate(self, check: Check) -> Finding:
        """Look what the average is worth on the validation parts; `check` as of `train`."""

    def train(self, at: Attempt, check: Check) -> Done:
        """Train from the average.

        Args:
            at: the try at a round.
            check: to be called between batches; raises `Abandoned` if it all counts no more.

        Raises:
            TrainingError: a loss is no number.
        """

    def calibration_shapes(self, duty: str) -> Shapes:
        """Names and shapes of what the cloud gives a client for a calibration."""

    def calibrate(self, duty: str, tensors: Mapping[str, Tensor], check: Check) -> Done:
        """Find the moments of what a cut is to code, with what the cloud gave for that.

        `check` as of `train`.
        """

    def end(self) -> None:
        """End what `begin` began, once the update is handed in or given up."""
