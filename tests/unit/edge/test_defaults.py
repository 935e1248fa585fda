"""What a run does where nothing was said."""

from __future__ import annotations

from argparse import Namespace

import pytest

from sft_common.config import ModelShape, SplitSpec
from sft_edge.defaults import CUT, USUAL
from sft_edge.job import split_of


def shape(*, blocks: int = 12, hidden: int = 768) -> ModelShape:
    return ModelShape(
        blocks=blocks, hidden=hidden, feed_forward=4 * hidden, positions=512, heads=12
    )


def split(prepared: SplitSpec | None = None, **said: object) -> SplitSpec:
    options = Namespace(**{"cut": None, "split_layer": None, "rank": None, **said})
    return split_of(options, shape(), prepared)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, (CUT, 11, USUAL[CUT].upper)),
        ({"split_layer": 7}, (CUT, 7, USUAL[CUT].upper)),
        ({"split_layer": 6}, (CUT, 6, USUAL[CUT].lower)),
        ({"split_layer": 1, "rank": 5}, (CUT, 1, 5)),
        ({"cut": "sft", "split_layer": 2}, ("sft", 2, 8)),
    ],
)
def test_a_low_cut_sends_more_numbers(said: dict[str, object], expected: object) -> None:
    found = split(**said)
    assert (found.cut, found.split_layer, found.rank) == expected
    assert USUAL[CUT].upper < USUAL[CUT].lower


def test_a_prepared_model_is_cut_as_it_was_prepared() -> None:
    prepared = SplitSpec(cut="stream-end", split_layer=2, rank=30, decoder_layers=3)
    assert split(prepared) == prepared


def test_no_more_numbers_than_the_model_has() -> None:
    assert USUAL[CUT].rank(1, shape(hidden=48)) == 48
