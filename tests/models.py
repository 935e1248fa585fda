"""Small random models for fast tests, saved as real folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import BertWordPieceTokenizer
from transformers import AutoConfig, BertTokenizerFast, PretrainedConfig

from sft_common.model.heads import HEAD_TABLE

WORDS = (
    "the a was is not good bad fine poor lovely awful room staff food tea bus lamp kettle park "
    "and but we never always again came broke worked smelled shone it very quite no"
).split()

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "vocab_size": 64,
    "pad_token_id": 0,
}


_GROUPED = {"num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 2, "eos_token_id": 3}

EXTRAS: dict[str, dict[str, Any]] = {
    "distilbert": {"hidden_dim": 64},
    "mpnet": {"relative_attention_num_buckets": 32},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "vit": {"image_size": 16, "patch_size": 4, "num_channels": 3},
    "gpt2": {"n_inner": 64, "bos_token_id": 2, "eos_token_id": 3},
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 4},
    "qwen2": _GROUPED,
    "qwen3": _GROUPED,
}
"""What else the small model of a family needs."""


def tiny_config(model_type: str = "bert", **changes: Any) -> PretrainedConfig:
    """Return the configuration of a small model."""
    sizes = {**SIZES, **EXTRAS.get(model_type, {}), **changes}
    config: PretrainedConfig = AutoConfig.for_model(model_type, **sizes)
    return config


def save_tiny_model(
    folder: Path,
    model_type: str = "bert",
    *,
    head: str = "sequence-classification",
    **changes: Any,
) -> Path:
    """Save a small random model with its tokenizer and return its folder."""
    torch.manual_seed(7)
    config = tiny_config(model_type, **changes)
    # Wider than usual, so that the model is not a near-linear one whose halves agree by luck.
    config.initializer_range = 0.2
    auto = getattr(transformers, HEAD_TABLE[head].auto_class)
    auto.from_config(config).save_pretrained(folder)
    if model_type != "vit":
        save_tiny_tokenizer(folder)
    return folder


def save_tiny_tokenizer(folder: Path) -> None:
    """Save a word-piece tokenizer over `WORDS`."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    table = {word: number for number, word in enumerate(vocabulary)}
    backend = BertWordPieceTokenizer(table, lowercase=True)
    BertTokenizerFast(tokenizer_object=backend._tokenizer).save_pretrained(folder)
