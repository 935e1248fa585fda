"""Image processors, and rows of tokens as a tokenizer gives them. It knows files, not tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft_common.errors import ModelError, first_line
from sft_common.model.tokenizer import padding_of
from sft_edge.tasks.batches import TokenRows

_IMAGE_FILE = "preprocessor_config.json"


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


def columns_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> dict[str, list[int]]:
    """Return the inputs of a model by name for one row of tokens."""
    return {name: [0] * len(ids) for name in tokenizer.model_input_names} | {"input_ids": ids}
