"""What a client must move in a round by formula. Arithmetic alone; sizes come from a federation.

Legend: |D| examples, gamma the share of them that SFPrompt keeps, p prompts, W the whole model, W_t
what a client trains of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from sft_cloud.federation.file import Written
from sft_cloud.federation.state import State
from sft_common.federation.plan import Transfer
from sft_common.model.families import shape_of
from sft_common.wire.encodings import ENCODING_TABLE

FLOAT32 = 4
"""Bytes of a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What the formulas hang on; all in bytes but where it says otherwise."""

    tokens: float
    """Real ones of an example in the mean, with its prompts; a number."""

    width: int
    """N, numbers of a token in the model."""

    passes: float
    """How often an example goes through the cloud in a round: gamma, or the epochs; a number."""

    trained: int
    """What a client trains, |p| + |W_t|."""

    given: int
    """What else it is given in each round: its share of the cuts."""

    whole: int
    """|W|."""

    up: int
    """A token's row at the cut and the row of its gradient; 0 where nothing is cut."""

    down: int
    """The same at the tail's cut."""

    first_row: bool
    """Whether at the tail's cut only one row of an example travels."""


def sizes_of(written: Written, lengths: Sequence[int], state: State) -> Sizes:
    """Return the sizes of a federation.

    Args:
        written: its plan and model.
        lengths: real tokens of the training examples.
        state: its last average.
    """
    plan, shape = written.plan, shape_of(written.pretrained.config)
    rows = {
        name: _rows(at, at.split.wire_width(shape)) if at else 0
        for name, at in (("up", plan.cut), ("down", plan.tail))
    }
    prompted = plan.tail is not None
    return Sizes(
        tokens=fmean(lengths) + (plan.training.prompts if prompted else 0),
        width=shape.hidden,
        passes=plan.training.keep if prompted else float(plan.training.epochs),
        trained=_bytes(state.clients),
        given=_bytes(state.given),
        whole=sum(FLOAT32 * p.numel() for p in written.pretrained.whole(seed=0).parameters()),
        **rows,
        first_row=plan.first_row,
    )


def published_bytes(sizes: Sizes, examples: float) -> float:
    """Return what SFPrompt's paper says, or of methods without two cuts 2 |W_t|.

    4 gamma |D| tokens width + 2 (|p| + |W_t|), numbers in float32 and all rows in all transfers;
    FedAvg, with W_t the whole model, 2 |W|.
    """
    moved = 4 * sizes.passes * examples * sizes.tokens * sizes.width * FLOAT32 if sizes.down else 0
    return moved + 2 * sizes.trained


def sent_bytes(sizes: Sizes, examples: float) -> float:
    """Return what should travel here: the rows as they are encoded, and no more of them."""
    below = 1 if sizes.first_row else sizes.tokens
    moved = sizes.passes * examples * (sizes.tokens * sizes.up + below * sizes.down)
    return moved + 2 * sizes.trained + sizes.given


def _rows(at: Transfer, width: int) -> int:
    ways = at.encoding, at.gradient_encoding
    return sum(ENCODING_TABLE[way].row_bytes(width) for way in ways)


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(FLOAT32 * tensor.numel() for tensor in tensors.values())
