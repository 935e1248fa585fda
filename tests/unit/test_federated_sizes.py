"""What the published sizes cost: counts equal closed forms, and shares follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import ViTConfig

from benchmarks import federated_sizes
from benchmarks.federated_sizes import PROMPT_TOKENS, Passes, Row, rows_of, table

WIDTH, INNER, BLOCKS, CLASSES, SIDE, PATCH = 32, 64, 4, 10, 16, 4
PATCHES = (SIDE // PATCH) ** 2
TINY = ViTConfig(
    num_labels=CLASSES,
    hidden_size=WIDTH,
    intermediate_size=INNER,
    num_hidden_layers=BLOCKS,
    num_attention_heads=2,
    image_size=SIDE,
    patch_size=PATCH,
)

PATCHING = 2 * PATCHES * WIDTH * 3 * PATCH**2
CLASSIFYING = 2 * WIDTH * CLASSES


def projections(tokens: int) -> int:
    return 2 * 4 * tokens * WIDTH**2


def scores(tokens: int) -> int:
    return 2 * 2 * tokens**2 * WIDTH


def feed_forward(tokens: int) -> int:
    return 2 * 2 * tokens * WIDTH * INNER


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return {row.client: row for row in rows_of("ViT-Base", TINY)}


def test_the_whole_model_costs_its_products_three_times_but_the_patches(
    rows: dict[str, Row],
) -> None:
    """Nobody asks for the gradient of an image."""
    tokens = 1 + PATCHES
    block = projections(tokens) + scores(tokens) + feed_forward(tokens)
    expected = 2 * PATCHING + 3 * (BLOCKS * block + CLASSIFYING)
    assert {row.whole for row in rows.values()} == {expected}


def test_without_a_block_it_is_patches_and_classifier(rows: dict[str, Row]) -> None:
    """Nothing below the classifier trains, so the gradient ends there."""
    found = rows["no block; classifier"]
    passes = Passes(
        local=PATCHING + 2 * CLASSIFYING,
        score=PATCHING + CLASSIFYING,
        split=PATCHING + 2 * CLASSIFYING,
    )
    assert found.passes == passes
    assert found.compute(2) == pytest.approx(
        (2.5 * passes.local + passes.score) / (2 * found.whole)
    )


def test_a_frozen_head_costs_one_backward_to_its_prompts(rows: dict[str, Row]) -> None:
    """Gradients of its inputs and none of its weights; of attention scores both."""
    tokens = 1 + PATCHES + PROMPT_TOKENS
    head = PATCHING + 2 * projections(tokens) + 3 * scores(tokens)
    found = rows["attention of block 1; classifier"].passes
    assert found.local == found.split == head + 3 * CLASSIFYING
    fewer = 1 + PATCHES
    assert found.score == PATCHING + projections(fewer) + scores(fewer) + CLASSIFYING


def test_bytes_are_those_of_the_formula(rows: dict[str, Row]) -> None:
    found = rows["block 1, attention of block 2; classifier"]
    assert found.sizes.trained == 4 * (
        PROMPT_TOKENS * WIDTH + 2 * WIDTH + (WIDTH + 1) * CLASSES
    )  # prompts, the last norm, the classifier
    tokens = 1 + PATCHES + PROMPT_TOKENS
    assert found.example_bytes == 4 * 0.5 * tokens * WIDTH * 4
    assert found.saved(found.examples_for(0.53)) == pytest.approx(0.53)
    assert found.saved(0) == 1 - found.sizes.trained / found.sizes.whole


def test_the_command_tells_a_row_of_each_and_what_was_published(
    rows: dict[str, Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(federated_sizes, "MODELS", {"ViT-Base": TINY})
    with pytest.raises(SystemExit) as end:
        federated_sizes.main(["--json", str(tmp_path / "sizes.json")])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert told == table(list(rows.values()))
    assert "Published: 0.46% of the compute; less communication by 53% (ViT-Base)" in told
    facts = json.loads((tmp_path / "sizes.json").read_text())
    assert [fact["client"] for fact in facts] == [*rows]
    assert facts[0]["compute"]["1"] == rows["no block; classifier"].compute(1)
