"""The tokenizer or image processor of a model folder. It knows files, not tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft_common.errors import ModelError, first_line
from sft_edge.tasks.batches import TokenRows

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
_IMAGE_FILE = "preprocessor_config.json"


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
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        # transformers would make up an empty vocabulary without a word.
        raise ModelError(
            f"{folder} holds no tokenizer: one of {', '.join(_TOKENIZER_FILES)} is needed"
        )
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


def load_image_processor(folder: Path, size: int) -> Any:
    """Return what turns images into pixel values, as the model was trained with.

    Args:
        folder: of the model.
        size: height and width that the model takes.

    Raises:
        ModelError: the folder has none, or one that makes images of another size.
    """
    if not (folder / _IMAGE_FILE).is_file():
        raise ModelError(f"{folder} holds no image processor: {_IMAGE_FILE} is needed")
    from PIL import Image
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False
        )
        made = processor([Image.new("RGB", (8, 8))], return_tensors="pt")["pixel_values"].shape
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"cannot read the image processor in {folder}: {first_line(error)}"
        ) from error
    if tuple(made[-2:]) != (size, size):
        raise ModelError(
            f"the image processor in {folder} makes images of {made[-2]} x {made[-1]}, its model "
            f"takes {size} x {size}; get the folder anew"
        )
    return processor


def empty_rows(tokenizer: PreTrainedTokenizerBase, *, numbers: bool = False) -> TokenRows:
    """Return an empty set of rows with the inputs that a tokenizer gives."""
    names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
    return TokenRows(names, padding=padding_of(tokenizer), numbers=numbers)


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that fills a batch up; causal models often have none of their own."""
    padding: Any = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id or 0) if padding is None else int(padding)


def columns_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> dict[str, list[int]]:
    """Return the inputs of a model by name for one row of tokens."""
    return {name: [0] * len(ids) for name in tokenizer.model_input_names} | {"input_ids": ids}
