"""What a run does where nothing was said; docs/performance.md and docs/LOG.md have the reasons."""

from __future__ import annotations

from typing import NamedTuple

from sft_edge.pacing import AUTO


class Usual(NamedTuple):
    """How a cut travels unless told otherwise."""

    rank: int
    """R, or as many as the model has."""

    encoding: str
    """Of activations, and of their gradients."""


CUT = "stream"

USUAL = {
    "stream": Usual(16, "int4"),
    "stream-end": Usual(16, "int4"),
    "sft": Usual(8, "float32"),
    "sft-output": Usual(8, "float32"),
    "svd-residual": Usual(8, "float32"),
    "none": Usual(8, "float32"),
}
"""Name of a cut -> how it travels; those that others have published, as they were published."""

MICRO_BATCHES = AUTO
