"""How two sides see that they hold the same model: digests of configuration and weights.

The digest of the weights means the same for a folder and for the hub, so that either may meet the
other: it is over the first rows of a few tensors, which are fetched if need be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from sft_common.config import ModelIdentity
from sft_common.errors import MismatchError
from sft_common.model.checkpoint import Checkpoint
from sft_common.model.families import Family

_DIGEST_FIELDS = (
    "model_type",
    "vocab_size",
    "type_vocab_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "hidden_dim",
    "n_inner",
    "hidden_act",
    "activation",
    "activation_function",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "image_size",
    "patch_size",
    "num_channels",
    "layer_types",
    "use_sliding_window",
    "relative_attention",
    "relative_attention_num_buckets",
    "max_relative_positions",
    "position_buckets",
    "pos_att_type",
    "share_att_key",
    "norm_rel_ebd",
    "position_biased_input",
    "embedding_size",
    "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn",
    "attention_bias",
    "mlp_bias",
    "qkv_bias",
)


def config_digest(config: PretrainedConfig) -> str:
    """Return the SHA-256 over what gives a model its shape, hexadecimal."""
    facts = {field: getattr(config, field, None) for field in _DIGEST_FIELDS}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def weights_digest(stock: Any, family: Family, checkpoint: Checkpoint) -> str:
    """Return the SHA-256 over the first rows of the embeddings and the outermost blocks.

    Args:
        stock: the whole model, for its names.
        family: its layout.
        checkpoint: where the tensors are.

    Raises:
        ModelError: a tensor is out of reach.
    """
    return checkpoint.digest(_telling_names(stock, family, checkpoint))


def _telling_names(stock: Any, family: Family, checkpoint: Checkpoint) -> Iterable[str]:
    backbone = f"{stock.base_model_prefix}."
    blocks = f"{backbone}{family.blocks}."
    inner = tuple(f"{blocks}{n}." for n in range(1, stock.config.num_hidden_layers - 1))
    top = tuple(f"{backbone}{module}." for module in family.top)
    for name, _ in stock.named_parameters():
        outer = name.startswith(backbone) and not name.startswith((*inner, *top))
        if outer and checkpoint.find(name) is not None:
            yield name


def digest_of(tensor: Tensor) -> bytes:
    """Return the SHA-256 over the numbers of a tensor, as float32 in row-major order."""
    numbers = tensor.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(numbers.flatten().numpy().data).digest()


def check_same(edge: ModelIdentity, cloud: ModelIdentity) -> None:
    """Refuse two identities that differ in configuration or weights.

    Raises:
        MismatchError: shows both digests.
    """
    for what, ours, theirs in (
        ("configuration", edge.config_digest, cloud.config_digest),
        ("weights", edge.weights_digest, cloud.weights_digest),
    ):
        if ours != theirs:
            raise MismatchError(
                f"edge and cloud hold different {what} of model {edge.name!r}: digest "
                f"{ours[:12]} on the edge, {theirs[:12]} on the cloud; give both the same folder"
            )
