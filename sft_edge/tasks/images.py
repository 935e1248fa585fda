"""Images with a class. Pixels are read when a batch needs them. It knows the image processor."""

from __future__ import annotations

import io
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sft_common.errors import DataError, first_line
from sft_edge.tasks.batches import Batch, Dataset
from sft_edge.tasks.checks import class_of, require
from sft_edge.tasks.files import Row
from sft_edge.tasks.table import Task

_LARGEST = 255


class Images(Dataset):
    """Images, opened again for every batch: memory stays flat however many there are.

    Args:
        sources: a path, an encoded file's bytes, or an array of (H, W) or (H, W, 3) for each image.
        labels: the class of each.
        places: where each came from, for messages.
        processor: makes pixel values of the model's size out of them.
        tokens: patches of an image and the class token: the tokens of an example.
    """

    def __init__(
        self,
        sources: Sequence[Path | bytes | np.ndarray],
        labels: Sequence[int],
        places: Sequence[str],
        processor: Any,
        tokens: int,
    ) -> None:
        self._sources, self._labels = sources, array("i", labels)
        self._places, self._processor, self._tokens = places, processor, tokens

    def __len__(self) -> int:
        return len(self._labels)

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the patches of each image, with the class token: always the same number."""
        return [self._tokens] * len(rows)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the images of these numbers as `pixel_values` (B, 3, H, W).

        Raises:
            DataError: an image cannot be read.
        """
        images = [_opened(self._sources[row], self._places[row]) for row in rows]
        pixels = self._processor(images, return_tensors="pt")["pixel_values"]
        return Batch(
            inputs={"pixel_values": pixels},
            lengths=self.lengths(rows),
            labels=[self._labels[row] for row in rows],
        )


def prepare(
    task: Task, rows: Sequence[Row], processor: Any, tokens: int, folder: Path | None
) -> Images:
    """Return the images of some rows; every one is opened once, so that none fails mid-way.

    A column may hold a path relative to the data folder, what `datasets` writes for an image (its
    bytes), or numbers in 0..255, lists of lists (H, W) or (H, W, 3).

    Raises:
        DataError: a row lacks a column, or an image cannot be read.
    """
    (column,) = task.columns
    sources, labels = [], []
    for row in rows:
        require(task, row, column, task.label_column)
        sources.append(_source(row, column, folder))
        labels.append(class_of(task, row, row.values[task.label_column]))
        _opened(sources[-1], row.place)
    return Images(sources, labels, [row.place for row in rows], processor, tokens)


def file_named_by(value: object) -> str | None:
    """Return the path, from the data folder, of the file that holds an image; None for others."""
    match value:
        case {"bytes": bytes()}:
            return None
        case str(path) | {"path": str(path)}:
            return path
        case _:
            return None


def _source(row: Row, column: str, folder: Path | None) -> Path | bytes | np.ndarray:
    if (path := file_named_by(row.values[column])) is not None:
        return (folder or Path()) / path
    match row.values[column]:
        case bytes(encoded) | {"bytes": bytes(encoded)}:
            return encoded
        case list(lines):
            return _pixels(row, column, lines)
        case value:
            raise DataError(
                f"{row.place}: column {column!r} holds {str(value)[:40]!r}, not an image: give a "
                "path, an encoded file, or lists of numbers in 0..255"
            )


def _pixels(row: Row, column: str, lines: list[Any]) -> np.ndarray:
    try:
        array_ = np.asarray(lines, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array_ = np.empty(0)
    grey, coloured = array_.ndim == 2, array_.ndim == 3 and array_.shape[-1] == 3
    if (
        not (grey or coloured)
        or not array_.size
        or not ((array_ >= 0) & (array_ <= _LARGEST)).all()
    ):
        raise DataError(
            f"{row.place}: column {column!r} holds no image: numbers in 0..{_LARGEST} in lists of "
            "(height, width) or (height, width, 3) are needed"
        )
    return array_.round().astype(np.uint8)


def _opened(source: Path | bytes | np.ndarray, place: str) -> Any:
    try:
        if isinstance(source, np.ndarray):
            return Image.fromarray(source).convert("RGB")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            image: Image.Image = file
            if image.mode.startswith("I;16"):  # convert() would clip at 255
                image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
            if "transparency" in image.info:  # of a palette; convert() warns of it otherwise
                image = image.convert("RGBA")
            return image.convert("RGB")
    except Exception as error:  # decoders raise many unrelated classes
        raise DataError(f"{place}: cannot read the image: {first_line(error)}") from error
