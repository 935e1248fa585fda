"""The tokenizer of a model folder. It knows files, not tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft_common.errors import ConfigError, ModelError, first_line

_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)


def load_tokenizer(
    folder: Path, vocabulary: int, *, words: bool = False
) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model folder.

    Args:
        folder: of the model.
        vocabulary: token ids that the model's embeddings have.
        words: whether it will be given lists of words, which byte-level tokenizers must be told.

    Raises:
        ModelError: the folder has no tokenizer, or one with more ids than the model.
    """
    if not any((folder / name).is_file() for name in _FILES):
        # transformers would make up an empty vocabulary without a word.
        raise ModelError(f"{folder} holds no tokenizer: one of {', '.join(_FILES)} is needed")
    options = {"add_prefix_space": True} if words else {}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read the tokenizer in {folder}: {first_line(error)}") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, "
            f"its model's embeddings {vocabulary}; get the folder anew"
        )
    return tokenizer


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that fills a batch up; causal models often have none of their own."""
    padding: Any = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id or 0) if padding is None else int(padding)


def check_length(
    wanted: int, tokenizer: PreTrainedTokenizerBase, positions: int, *, model: str, pairs: bool
) -> None:
    """Refuse a length of examples that leaves no room for text, or that the model does not take.

    Args:
        wanted: tokens of an example.
        tokenizer: of the model.
        positions: longest sequence in tokens that the model takes.
        model: its name.
        pairs: whether there are pairs of texts.

    Raises:
        ConfigError: says what fits.
    """
    own = tokenizer.num_special_tokens_to_add(pair=pairs)
    if not own < wanted <= positions:
        raise ConfigError(
            f"--max-length {wanted} is outside {own + 1}..{positions}: {model} takes "
            f"{positions} tokens, of which {own} are its own"
        )
