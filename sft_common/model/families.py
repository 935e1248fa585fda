"""The one table of architectures: where a family keeps embeddings, blocks, feed-forward layers.

It knows names and call order inside stock transformers models; it knows nothing of cuts or of who
owns which half. Adding a family is one entry in `FAMILIES` (docs/families.md walks through one).

Legend: B batch, M sequence, N hidden width, H feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig

from sft_common.config import ModelShape
from sft_common.errors import ModelError
from sft_common.model.block import BlockLayout


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one architecture is laid out. Paths are attribute paths inside the backbone."""

    backbone: str
    """The prefix that published checkpoints put before the backbone's parameters."""

    embeddings: str = "embeddings"
    """What makes the first hidden stream out of the input."""

    after_embeddings: tuple[str, ...] = ()
    """Modules between the embeddings and the first block; absent ones are skipped."""

    added_to_embeddings: tuple[str, ...] = ()
    """Modules whose output the backbone adds to the embeddings' (absolute positions)."""

    blocks: str
    """The list of blocks."""

    top: tuple[str, ...]
    """Modules above the last block (pooler, last norm); absent ones are skipped."""

    block: BlockLayout
    """What a block is made of."""

    returns_tuple: bool = False
    """Whether a block returns its output as the first entry of a tuple."""

    feed_forward: Callable[[Any], int] = attrgetter("intermediate_size")
    """configuration -> H."""

    positions: Callable[[Any], int] = attrgetter("max_position_embeddings")
    """configuration -> longest sequence in tokens."""

    score_rows: int = 3
    """Rows of attention scores that a training step keeps for each token and head."""

    causal: bool = False
    """Whether a token sees only what is before it: such a model can predict the next one."""

    takes_prompts: bool = False
    """Whether soft prompts may follow the first token: attention knows no distances, and the first
    token is pooled."""

    shared: tuple[str, ...] = ()
    """Modules that every block uses (tables of relative positions). Both halves hold them, so they
    stay as pre-trained: two trained copies would be no model of the family any more."""

    stored_names: tuple[tuple[str, str], ...] = ()
    """Regular expressions that turn a checkpoint's names into those of the modules here."""

    refuse: Callable[[Any], str | None] = lambda _: None
    """configuration -> why a variant of the family cannot be cut, or None."""


def _attention(block: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    attended: Tensor = block.attention(hidden, *args, **kwargs)[0]
    return attended


def _masked_attention(block: Any, hidden: Tensor, mask: Any = None, *_: Any, **__: Any) -> Tensor:
    attended: Tensor = block.attention(hidden, mask)[0]
    return attended


def _distilbert_attention(block: Any, hidden: Tensor, mask: Any = None, **kwargs: Any) -> Tensor:
    attended: Tensor = block.attention(hidden, attention_mask=mask, **kwargs)[0]
    normed: Tensor = block.sa_layer_norm(attended + hidden)
    return normed


def _vit_attention(block: Any, hidden: Tensor, mask: Any = None, **kwargs: Any) -> Tensor:
    attended = block.attention(block.layernorm_before(hidden), mask, **kwargs)[0]
    stream: Tensor = block.dropout(attended) + hidden
    return stream


def _gpt2_attention(block: Any, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    past, mask, *_ = (*args, None, None)
    kwargs = {name: kwargs[name] for name in ("use_cache", "position_ids") if name in kwargs}
    attended = block.attn(block.ln_1(hidden), past_key_values=past, attention_mask=mask, **kwargs)[
        0
    ]
    stream: Tensor = attended + hidden
    return stream


def _llama_attention(block: Any, hidden: Tensor, **kwargs: Any) -> Tensor:
    attended = block.self_attn(hidden_states=block.input_layernorm(hidden), **kwargs)[0]
    stream: Tensor = hidden + attended
    return stream


_BERT_BLOCK = BlockLayout(
    attention=("attention",),
    attend=_masked_attention,
    projections=("intermediate.dense",),
    activation="intermediate.intermediate_act_fn",
    contraction="output.dense",
    dropout="output.dropout",
    norm="output.LayerNorm",
    norm_first=False,
)


def _positions_after_padding(config: Any) -> int:
    """RoBERTa's way: position numbers start behind the padding token's id."""
    return int(config.max_position_embeddings - config.pad_token_id - 1)


def _bert_like(backbone: str, **changes: Any) -> Family:
    return Family(
        **{
            "backbone": backbone,
            "after_embeddings": ("embeddings_project",),
            "blocks": "encoder.layer",
            "top": ("pooler",),
            "block": _BERT_BLOCK,
            **changes,
        }
    )


def _relative_bert_like(backbone: str, **changes: Any) -> Family:
    block = _BERT_BLOCK.with_attention(_attention)
    return _bert_like(backbone, block=block, returns_tuple=True, **changes)


_LLAMA = Family(
    backbone="model",
    embeddings="embed_tokens",
    blocks="layers",
    top=("norm",),
    causal=True,
    block=BlockLayout(
        attention=("input_layernorm", "self_attn"),
        attend=_llama_attention,
        projections=("mlp.gate_proj", "mlp.up_proj"),
        activation="mlp.act_fn",
        contraction="mlp.down_proj",
        dropout=None,
        norm="post_attention_layernorm",
        norm_first=True,
    ),
)

_GPT2 = Family(
    backbone="transformer",
    embeddings="wte",
    added_to_embeddings=("wpe",),
    after_embeddings=("drop",),
    blocks="h",
    top=("ln_f",),
    causal=True,
    feed_forward=lambda config: config.n_inner or 4 * config.hidden_size,
    block=BlockLayout(
        attention=("ln_1", "attn"),
        attend=_gpt2_attention,
        projections=("mlp.c_fc",),
        activation="mlp.act",
        contraction="mlp.c_proj",
        dropout="mlp.dropout",
        norm="ln_2",
        norm_first=True,
        input_major=True,
    ),
)

_DISTILBERT = Family(
    backbone="distilbert",
    takes_prompts=True,
    blocks="transformer.layer",
    top=(),
    feed_forward=attrgetter("hidden_dim"),
    block=BlockLayout(
        attention=("attention", "sa_layer_norm"),
        attend=_distilbert_attention,
        projections=("ffn.lin1",),
        activation="ffn.activation",
        contraction="ffn.lin2",
        dropout="ffn.dropout",
        norm="output_layer_norm",
        norm_first=False,
    ),
)

_VIT = Family(
    backbone="vit",
    takes_prompts=True,
    blocks="layers",
    top=("layernorm", "pooler"),
    positions=lambda config: (config.image_size // config.patch_size) ** 2 + 1,
    block=BlockLayout(
        attention=("layernorm_before", "attention"),
        attend=_vit_attention,
        projections=("mlp.fc1",),
        activation="mlp.activation_fn",
        contraction="mlp.fc2",
        dropout="dropout",
        norm="layernorm_after",
        norm_first=True,
    ),
    stored_names=(
        (r"encoder\.layer\.", "layers."),
        (r"attention\.attention\.(query|key|value)\.", r"attention.\1_proj."),
        (r"attention\.(q|k|v)(?:uery|ey|alue)_proj\.", r"attention.\1_proj."),
        (r"attention\.output\.dense\.", "attention.o_proj."),
        (r"intermediate\.dense\.", "mlp.fc1."),
        (r"(layers\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
    ),
)


def _deberta_variant(config: Any) -> str | None:
    if getattr(config, "conv_kernel_size", 0) > 0:
        return "its convolution beside the first block crosses every cut (conv_kernel_size > 0)"
    return None


FAMILIES: dict[str, Family] = {
    "bert": _bert_like("bert", takes_prompts=True),
    "roberta": _bert_like("roberta", positions=_positions_after_padding, takes_prompts=True),
    "electra": _bert_like("electra", takes_prompts=True),
    "distilbert": _DISTILBERT,
    "mpnet": _relative_bert_like(
        "mpnet",
        positions=_positions_after_padding,
        shared=("encoder.relative_attention_bias",),
    ),
    "deberta-v2": _relative_bert_like(
        "deberta",
        score_rows=8,
        shared=("encoder.rel_embeddings", "encoder.LayerNorm"),
        refuse=_deberta_variant,
    ),
    "vit": _VIT,
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""model_type of a configuration -> layout."""


def family_of(config: PretrainedConfig) -> Family:
    """Return the layout of a configuration's architecture.

    Raises:
        ModelError: the architecture is not in the table, or a variant that cannot be cut.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"model family {config.model_type!r} is not supported; supported: "
            f"{', '.join(sorted(FAMILIES))}"
        )
    if reason := family.refuse(config):
        raise ModelError(f"this {config.model_type} model is not supported: {reason}")
    return family


def shape_of(config: PretrainedConfig) -> ModelShape:
    """Return the sizes that a cut must fit."""
    family = family_of(config)
    return ModelShape(
        blocks=config.num_hidden_layers,
        hidden=config.hidden_size,
        feed_forward=family.feed_forward(config),
        positions=family.positions(config),
        heads=config.num_attention_heads,
        score_rows=family.score_rows,
    )


def blocks_of(backbone: nn.Module, family: Family) -> nn.ModuleList:
    """Return the list of blocks of a backbone."""
    blocks = backbone.get_submodule(family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    return blocks
