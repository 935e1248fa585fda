"""What SFPrompt costs a client at the sizes it was published with, counted without any numbers.

    python -m benchmarks.federated_sizes [--json FILE]

ViT-Base and ViT-Large are made of this project's own parts on torch's meta device, where a tensor
has a shape and no memory, and FlopCounterMode counts what an example costs: products of matrices
and convolutions, forward and backward. No weights, data or processes are needed, and nothing is
learned. "no block" is a client of patches and classifier alone, which the project's cuts do not
make: prompts behind such a head get no gradient without the body.

Legend: E local epochs, gamma the share of examples that go through the body, |D| the examples of a
client, p prompts, W the whole model, W_t what a client trains of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, ViTConfig

from benchmarks.federated_clients import counted
from benchmarks.federated_formula import FLOAT32, Sizes, published_bytes
from sft_common.commandline import OneLineParser, run_command
from sft_common.config import PartsSpec, SplitSpec
from sft_common.files import written_aside
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE, meta_model
from sft_common.model.parts import Bridge, HeadPart, Parts, TailPart

HEAD, META = "image-classification", torch.device("meta")
CLASSES, PROMPT_TOKENS, KEEP = 10, 5, 0.5

BASE: dict[str, Any] = {"num_labels": CLASSES}
LARGE = BASE | {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
MODELS = {"ViT-Base": ViTConfig(**BASE), "ViT-Large": ViTConfig(**LARGE)}

PUBLISHED_SAVING = {"ViT-Base": 0.53, "ViT-Large": 0.81}
"""Of FedAvg's communication (SFPrompt, abstract)."""

PUBLISHED_COMPUTE = 0.0046
"""Of FedAvg's local compute (SFPrompt, abstract)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """Floating-point operations of one example on a client."""

    local: int
    """Forward and backward past the body (phase 1)."""

    score: int
    """Forward past the body, without prompts (pruning)."""

    split: int
    """Forward and backward of head and tail, the body elsewhere (phase 2)."""

    def of_round(self, epochs: int) -> float:
        """Return those of an example in a round, in the mean."""
        return epochs * self.local + self.score + KEEP * self.split


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One model, and how much of it a client has."""

    model: str
    client: str
    passes: Passes
    whole: int
    """Operations of an example forward and backward through the whole model (FedAvg)."""

    sizes: Sizes
    """What its bytes hang on."""

    def compute(self, epochs: int) -> float:
        """Return the share of FedAvg's local compute with as many epochs."""
        return self.passes.of_round(epochs) / (epochs * self.whole)

    def saved(self, examples: float) -> float:
        """Return the share of FedAvg's communication that is spared with so many examples."""
        return 1 - published_bytes(self.sizes, examples) / (2 * self.sizes.whole)

    def examples_for(self, saving: float) -> float:
        """Return |D| at which such a share is spared."""
        return (self.saved(0) - saving) / (self.saved(0) - self.saved(1))

    @property
    def example_bytes(self) -> float:
        """What an example moves in a round."""
        return published_bytes(self.sizes, 1) - published_bytes(self.sizes, 0)


class _Elsewhere(torch.autograd.Function):
    """A body that costs the client nothing: shapes of its rows and of its gradient."""

    @staticmethod
    def forward(ctx: Any, activation_BMN: Tensor, first_row: bool) -> Tensor:
        ctx.shape = activation_BMN.shape
        rows_BMN = torch.empty_like(activation_BMN)
        return rows_BMN[:, 0] if first_row else rows_BMN

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.empty(ctx.shape, device=META), None


def _flops(work: Callable[[], Any]) -> int:
    return counted(work)[0]


def parts_of(config: PretrainedConfig, spec: PartsSpec) -> Parts:
    """Return what a client holds, without numbers."""
    spec.check(shape_of(config))
    prompts = torch.empty(spec.prompts, config.hidden_size, device=META)
    head = HeadPart(meta_model(config, HEAD), spec, prompts)
    tail = TailPart(meta_model(config, HEAD), spec)
    bridge = Bridge(meta_model(config, HEAD), spec)

    def body(activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        rows: Tensor = _Elsewhere.apply(activation_BMW, spec.first_row)  # type: ignore[no-untyped-call]
        return rows

    return Parts(spec, head, body, tail, bridge, HEAD_TABLE[HEAD]).train()


def passes_of(parts: Parts, image: Tensor) -> Passes:
    """Return what an image costs in each of a round's phases; as SFPrompt's client computes."""
    inputs = {"pixel_values": image}

    @torch.no_grad()
    def score() -> Tensor:
        return parts.local(inputs, prompted=False)

    return Passes(
        local=_flops(lambda: parts.local(inputs).sum().backward()),
        score=_flops(score),
        split=_flops(lambda: parts(inputs).sum().backward()),
    )


def without_a_block(config: PretrainedConfig, image: Tensor) -> Passes:
    """Return what patches and classifier alone would cost."""
    model = meta_model(config, HEAD)
    below = model.get_submodule(model.base_model_prefix).embeddings.requires_grad_(False)
    train = _flops(lambda: model.classifier(below(image)[:, 0]).sum().backward())
    with torch.no_grad():
        return Passes(
            local=train, score=_flops(lambda: model.classifier(below(image)[:, 0])), split=train
        )


def rows_of(name: str, config: PretrainedConfig) -> list[Row]:
    """Return the rows of a model."""
    blocks = shape_of(config).blocks
    side = config.image_size
    image = torch.empty(1, config.num_channels, side, side, device=META)
    whole = meta_model(config, HEAD)
    row_bytes = 2 * FLOAT32 * config.hidden_size
    shared: dict[str, Any] = {
        "tokens": 1 + (side // config.patch_size) ** 2 + PROMPT_TOKENS,
        "width": config.hidden_size,
        "passes": KEEP,
        "whole": _bytes(whole.parameters()),
        "given": 0,
        "up": row_bytes,
        "down": row_bytes,
    }
    flops = _flops(lambda: whole(pixel_values=image).logits.sum().backward())
    heads = {"no block": 0, "attention of block 1": 1, "block 1, attention of block 2": 2}
    tails = {"classifier": blocks, "last block, classifier": blocks - 1}
    found = []
    for head, first in heads.items():
        for tail, second in tails.items():
            if not first and second < blocks:
                continue
            parts = parts_of(
                config,
                PartsSpec(
                    first=SplitSpec(cut="none", split_layer=max(first, 1)),
                    second=SplitSpec(cut="none-end", split_layer=second),
                    prompts=PROMPT_TOKENS,
                    first_row=second == blocks,
                ),
            )
            passes = passes_of(parts, image) if first else without_a_block(config, image)
            trained = _bytes(parts.trained().values())
            sizes = Sizes(trained=trained, first_row=second == blocks, **shared)
            client = f"{head}; {tail}"
            found.append(Row(model=name, client=client, passes=passes, whole=flops, sizes=sizes))
    return found


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(FLOAT32 * tensor.numel() for tensor in tensors)


def table(rows: Sequence[Row]) -> str:
    """Return all rows as Markdown."""
    lines = [
        "| model | a client has | GFLOP an example: past the body, score, split | whole model "
        "| of FedAvg's compute, E = 1 | E = 10 | MB: 2W, 2(p + W_t), an example "
        "| published saving at a D of |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        passes = ", ".join(
            f"{flops / 1e9:.2f}" for flops in (row.passes.local, row.passes.score, row.passes.split)
        )
        moved = 2 * row.sizes.whole, 2 * row.sizes.trained, row.example_bytes
        sizes = ", ".join(f"{size / 1e6:.2f}" for size in moved)
        lines.append(
            f"| {row.model} | {row.client} | {passes} | {row.whole / 1e9:.1f} "
            f"| {row.compute(1):.2%} | {row.compute(10):.2%} | {sizes} "
            f"| {row.examples_for(PUBLISHED_SAVING[row.model]):.0f} |"
        )
    savings = ", ".join(f"{share:.0%} ({name})" for name, share in PUBLISHED_SAVING.items())
    said = f"Published: {PUBLISHED_COMPUTE:.2%} of the compute; less communication by {savings}."
    return "\n".join([*lines, "", said, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (it failed) or 2 (wrong usage)."""
    top = OneLineParser(
        prog="python -m benchmarks.federated_sizes", description=__doc__.splitlines()[0]
    )
    top.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    options = top.parse_args(arguments)
    sys.exit(run_command("federated_sizes", lambda: run(options)))


def run(options: argparse.Namespace) -> None:
    """Count, print the table and write the figures; raises OSError."""
    rows = [row for name, config in MODELS.items() for row in rows_of(name, config)]
    print(table(rows), end="")
    if options.json:
        facts = [
            asdict(row) | {"compute": {str(epochs): row.compute(epochs) for epochs in (1, 10)}}
            for row in rows
        ]
        with written_aside(options.json) as aside:
            aside.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
