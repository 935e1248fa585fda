"""The one table of architectures: where a family keeps embeddings, blocks, feed-forward layers.

It knows names and call order inside stock transformers models; it knows nothing of cuts or of who
owns which half. Adding a family is one entry in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig

from sft_common.config import ModelShape
from sft_common.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one architecture is laid out. Paths are attribute paths of the sequence classifier."""

    backbone: str
    """The model without its head; also the prefix of its parameter names."""

    bottom: tuple[str, ...]
    """Modules below the first block, relative to the backbone; absent ones are skipped."""

    top: tuple[str, ...]
    """Modules above the last block, relative to the backbone (pooler); absent ones are skipped."""

    blocks: str
    """The list of blocks, relative to the backbone."""

    head: tuple[str, ...]
    """Modules of the head, relative to the classifier; a checkpoint may lack their tensors."""

    edge_modules: tuple[str, ...]
    """Modules of a block in front of the cut (attention with its residual and norm)."""

    projection: str
    """The feed-forward input projection (N -> H) of a block: the weight that the cut factors."""

    attend: Callable[[nn.Module, Tensor, Any], Tensor]
    """(block, hidden (B, M, N), mask) -> post-attention stream (B, M, N)."""

    feed_forward: Callable[[nn.Module, Tensor, Tensor], Tensor]
    """(block, input of the projection, residual) -> output of the block (B, M, N)."""

    positions_after_padding: bool
    """Whether position numbers start behind pad_token_id, which shortens the longest sequence."""

    fingerprint: tuple[str, ...]
    """Tensors, relative to the backbone, whose beginnings tell two checkpoints apart; LAST stands
    for the number of the highest block."""


def _bert_attend(block: Any, hidden: Tensor, mask: Any) -> Tensor:
    attended: Tensor = block.attention(hidden, mask)[0]
    return attended


def _bert_feed_forward(block: Any, projected: Tensor, residual: Tensor) -> Tensor:
    output: Tensor = block.output(block.intermediate(projected), residual)
    return output


def _bert_like(
    backbone: str, head: tuple[str, ...], *, positions_after_padding: bool = False
) -> Family:
    return Family(
        backbone=backbone,
        bottom=("embeddings", "embeddings_project"),
        top=("pooler",),
        blocks="encoder.layer",
        head=head,
        edge_modules=("attention",),
        projection="intermediate.dense",
        attend=_bert_attend,
        feed_forward=_bert_feed_forward,
        positions_after_padding=positions_after_padding,
        fingerprint=(
            "embeddings.word_embeddings.weight",
            "embeddings.LayerNorm.weight",
            *(
                f"encoder.layer.{block}.{tensor}"
                for block in ("0", "LAST")
                for tensor in (
                    "attention.self.query.weight",
                    "attention.output.LayerNorm.weight",
                    "output.dense.weight",
                    "output.dense.bias",
                )
            ),
        ),
    )


FAMILIES: dict[str, Family] = {
    "bert": _bert_like("bert", ("dropout", "classifier")),
    "roberta": _bert_like("roberta", ("classifier",), positions_after_padding=True),
    "electra": _bert_like("electra", ("classifier",)),
}
"""model_type of a configuration -> layout."""


def family_of(config: PretrainedConfig) -> Family:
    """Return the layout of a configuration's architecture.

    Raises:
        ModelError: the architecture is not in the table.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"model family {config.model_type!r} is not supported; supported: "
            f"{', '.join(sorted(FAMILIES))}"
        )
    return family


def shape_of(config: PretrainedConfig) -> ModelShape:
    """Return the sizes that a cut must fit."""
    skipped = config.pad_token_id + 1 if family_of(config).positions_after_padding else 0
    return ModelShape(
        blocks=config.num_hidden_layers,
        hidden=config.hidden_size,
        feed_forward=config.intermediate_size,
        positions=config.max_position_embeddings - skipped,
        heads=config.num_attention_heads,
    )
