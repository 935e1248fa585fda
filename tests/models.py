"""Small random models for fast tests, saved as real folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertTokenizerFast,
    PretrainedConfig,
)

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


def tiny_config(model_type: str = "bert", **changes: Any) -> PretrainedConfig:
    """Return the configuration of a small model."""
    config: PretrainedConfig = AutoConfig.for_model(model_type, **{**SIZES, **changes})
    return config


def save_tiny_model(folder: Path, model_type: str = "bert", **changes: Any) -> Path:
    """Save a small random model with its tokenizer and return its folder."""
    torch.manual_seed(7)
    config = tiny_config(model_type, **changes)
    # Wider than usual, so that the model is not a near-linear one whose halves agree by luck.
    config.initializer_range = 0.2
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return folder


def save_tiny_tokenizer(folder: Path) -> None:
    """Save a word-piece tokenizer over `WORDS`."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    table = {word: number for number, word in enumerate(vocabulary)}
    backend = BertWordPieceTokenizer(table, lowercase=True)
    BertTokenizerFast(tokenizer_object=backend._tokenizer).save_pretrained(folder)
