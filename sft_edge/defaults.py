"""What a run does where nothing was said; docs/performance.md and docs/LOG.md have the reasons."""

from __future__ import annotations

from typing import NamedTuple

from sft_common.config import ModelShape
from sft_edge.pacing import AUTO


class Usual(NamedTuple):
    """How a cut travels unless told otherwise."""

    encoding: str
    """Of activations, and of their gradients."""

    upper: int
    """R in the upper half of the blocks."""

    lower: int
    """R in the lower half, where a rank leaves out more of the stream."""

    def rank(self, split_layer: int, shape: ModelShape) -> int:
        """Return R at a split layer, or as many numbers as the model has."""
        wanted = self.lower if 2 * split_layer <= shape.blocks else self.upper
        return min(wanted, shape.hidden)


CUT = "stream"

USUAL = {
    "stream": Usual("int4", 16, 124),
    "stream-end": Usual("int4", 16, 124),
    "sft": Usual("float32", 8, 8),
    "sft-output": Usual("float32", 8, 8),
    "svd-residual": Usual("float32", 8, 8),
    "none": Usual("float32", 8, 8),
}
"""Name of a cut -> how it travels; those that others have published, as they were published."""

MICRO_BATCHES = AUTO
