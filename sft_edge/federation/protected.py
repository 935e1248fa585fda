"""A method whose updates are clipped and noised before anybody sees them (docs/privacy.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from sft_common.errors import ProtocolError
from sft_common.federation.plan import UpdatePrivacy
from sft_common.federation.said import Attempt, Finding
from sft_common.federation.tensors import Shapes
from sft_edge.federation.done import Done
from sft_edge.federation.folder import ClientFolder
from sft_edge.federation.material import Check
from sft_edge.federation.method import Method
from sft_edge.federation.privacy import Accountant, fresh_noise, privatized


class Protected:
    """Another method, and noise on what it hands in.

    Args:
        method: trains.
        spec: how much noise.
        folder: of the client; counts releases through restarts.

    Raises:
        ConfigError: the library that counts is not installed.
        SnapshotError: what was given away before is not to be read.
    """

    def __init__(self, method: Method, spec: UpdatePrivacy, folder: ClientFolder) -> None:
        self._method, self._spec, self._folder = method, spec, folder
        self._accountant = Accountant(spec, folder.releases())
        self._received: dict[str, Tensor] = {}

    @property
    def epsilon(self) -> float:
        """What all that was handed in may have given away, at the spec's delta."""
        return self._accountant.epsilon()

    @property
    def releases(self) -> int:
        """How often something was handed in."""
        return self._accountant.releases

    @property
    def shapes(self) -> Shapes:
        """As the method says."""
        return self._method.shapes

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin from an average."""
        self._received = dict(tensors)
        self._method.take(tensors)

    def begin(self, at: Attempt) -> None:
        """Get ready for a try at a round."""
        self._method.begin(at)

    def evaluate(self, check: Check) -> Finding:
        """Look what the average is worth; the cloud is not told."""
        return self._method.evaluate(check)

    def train(self, at: Attempt, check: Check) -> Done:
        """Train, then clip and noise what came of it; it counts as given away from here on."""
        done = self._method.train(at, check)
        received = {name: self._received[name] for name in done.tensors}
        tensors = privatized(done.tensors, received, self._spec, fresh_noise())
        self._accountant.count()
        self._folder.save_releases(self._accountant.state())
        return dataclasses.replace(
            done, tensors=tensors, facts={**done.facts, "epsilon": self.epsilon}
        )

    def calibration_shapes(self, duty: str) -> Shapes:
        """As the method says."""
        return self._method.calibration_shapes(duty)

    def calibrate(self, duty: str, tensors: Mapping[str, Tensor], check: Check) -> Done:
        """Nothing leaves without noise.

        Raises:
            ProtocolError: the cloud asks for it all the same.
        """
        raise ProtocolError(f"the cloud asks for {duty}, which would leave without noise")

    def end(self) -> None:
        """End what `begin` began."""
        self._method.end()
