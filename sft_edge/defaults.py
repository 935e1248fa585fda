"""What a run does where nothing was said; docs/performance.md and docs/LOG.md have the reasons."""

from __future__ import annotations

from typing import NamedTuple

from sft_common.config import ModelShape, SplitSpec
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


def usual_layer(shape: ModelShape) -> int:
    """Return the block that is cut: the last but one."""
    return max(1, shape.blocks - 1)


def usual_split(shape: ModelShape) -> SplitSpec:
    """Return how a model that was not prepared is cut."""
    layer = usual_layer(shape)
    return SplitSpec(cut=CUT, split_layer=layer, rank=USUAL[CUT].rank(layer, shape))


MICRO_BATCHES = AUTO
