"""Neither side ever holds what the other owns: parameter bytes and peak resident memory.

Each measurement is a process of its own on a random BERT of 160 MB whose blocks weigh most.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import save_tiny_model
from tests.warm import Forge

Measured = Callable[[str, int], dict[str, float]]

MEASURE = """
import json, sys
from pathlib import Path
import torch
from sft_common.config import SplitSpec
from sft_common.model.loading import Pretrained

folder, what = Path(sys.argv[1]), sys.argv[2]
split = SplitSpec(split_layer=int(sys.argv[3]), rank=8)

def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
before = peak()
pretrained = Pretrained(folder, num_labels=2)
if what == "net1":
    module = pretrained.net1(split)
    pretrained.fill_net1(module)
elif what == "net2":
    module, _ = pretrained.net2(split, seed=0, device=torch.device("cpu"))
else:
    module = pretrained.whole(seed=0)
owned = sum(p.numel() * p.element_size() for p in module.parameters())
print(json.dumps({"owned": owned, "peak": peak() - before}))
"""

BLOCKS = 12
MARGIN = 40e6
"""Configuration, skeleton on the meta device, a mapped page or two, buffers of the math library,
pages of the program that it was forked from."""

SVD_WORKSPACE = 4 * 8 * 512 * 2048
"""The split weight and its factors in float64; free again before net2 is filled."""


@pytest.fixture(scope="module")
def big_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(
        tmp_path_factory.mktemp("big") / "big-bert",
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=BLOCKS,
        num_attention_heads=8,
        vocab_size=8000,
    )


@pytest.fixture(scope="module")
def measured(
    programs: Forge, big_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    place = tmp_path_factory.mktemp("measured")
    script = place / "measure.py"
    script.write_text(MEASURE)

    def measure(what: str, split_layer: int) -> dict[str, float]:
        said = programs.script(place, script, big_model, what, split_layer).said()
        result: dict[str, float] = json.loads(said)
        return result

    return measure


@pytest.fixture(scope="module")
def whole(measured: Measured) -> dict[str, float]:
    return measured("whole", 1)


@pytest.mark.parametrize("split_layer", [2, 11])
@pytest.mark.parametrize("what", ["net1", "net2"])
def test_a_half_never_takes_the_memory_of_the_whole(
    measured: Measured, whole: dict[str, float], what: str, split_layer: int
) -> None:
    half = measured(what, split_layer)
    share = half["owned"] / whole["owned"]
    expected = split_layer / BLOCKS if what == "net1" else 1 - split_layer / BLOCKS
    assert abs(share - expected) < 0.15
    held = half["owned"] if what == "net1" else max(half["owned"], SVD_WORKSPACE)
    assert half["peak"] < held + MARGIN, (half, whole)
    assert half["peak"] + 15e6 < whole["peak"], (half, whole)


def test_the_halves_together_own_what_the_whole_does(
    measured: Measured, whole: dict[str, float]
) -> None:
    """But for the factored weight: 512 x 2048 became 512 x 8, 8 x 8 and 8 x 2048."""
    halves = sum(measured(what, 6)["owned"] for what in ("net1", "net2"))
    factored = 4 * (512 * 2048 - 512 * 8 - 8 * 8 - 8 * 2048)
    assert halves == whole["owned"] - factored
