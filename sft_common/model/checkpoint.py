"""Read single tensors of a pre-trained checkpoint by their stock names. It knows files, not halves.

Only safetensors: a tensor is found by name and read without reading the others, and nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sft_common.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

DIGEST_ROWS = 8


class Checkpoint:
    """The safetensors of one model folder, single or sharded.

    Raises:
        ModelError: the folder holds no safetensors, or they cannot be read.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        """Open a folder; `prefix` is the backbone's name, which older files may leave out."""
        self.folder = folder
        self._prefix = prefix
        self._file_of = _tensor_files(folder)

    def find(self, stock_name: str) -> str | None:
        """Return the name under which a tensor is stored, or None if it is not.

        Files saved from the bare backbone lack its prefix, files saved from another head have it
        twice or not at all, and files of 2018 call the norms' tensors gamma and beta.
        """
        bare = stock_name.removeprefix(f"{self._prefix}.")
        for name in (stock_name, bare, f"{self._prefix}.{stock_name}"):
            legacy = re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", name)
            legacy = re.sub(r"LayerNorm\.bias$", "LayerNorm.beta", legacy)
            for candidate in (name, legacy):
                if candidate in self._file_of:
                    return candidate
        return None

    def read(self, stock_name: str, *, rows: int | None = None) -> Tensor:
        """Return one tensor on the CPU; with `rows` only that many rows of a matrix.

        Raises:
            ModelError: the checkpoint does not have it, or its file is damaged.
        """
        stored = self.find(stock_name)
        if stored is None:
            raise ModelError(f"{self.folder} has no tensor {stock_name}; is it another model?")
        file = self._file_of[stored]
        try:
            with safe_open(file, framework="pt") as tensors:
                view = tensors.get_slice(stored)
                vector = len(view.get_shape()) < 2
                tensor: Tensor = view[:] if rows is None or vector else view[:rows]
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {stored} from {file}: {error}") from error
        return tensor

    def require(self, stock_names: Iterable[str]) -> None:
        """Refuse a checkpoint that lacks any of the tensors.

        Raises:
            ModelError: names the first one missing and how many more.
        """
        missing = [name for name in stock_names if self.find(name) is None]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelError(
                f"{self.folder} has no tensor {missing[0]}{more}: "
                "its weights do not fit its config.json; get the folder anew"
            )

    def digest(self, stock_names: Iterable[str]) -> str:
        """Return the SHA-256 over some tensors, of matrices over the first rows; hexadecimal.

        Raises:
            ModelError: as `read`.
        """
        digest = hashlib.sha256()
        for name in stock_names:
            head = self.read(name, rows=DIGEST_ROWS).float().contiguous()
            digest.update(head.numpy().tobytes())
        return digest.hexdigest()


def _tensor_files(folder: Path) -> dict[str, Path]:
    if (folder / INDEX).is_file():
        return _indexed_files(folder)
    file = folder / SINGLE
    if not file.is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"{folder} holds no weights: {SINGLE} is missing (found: {found}); "
            "save the model with save_pretrained, which writes safetensors"
        )
    try:
        with safe_open(file, framework="pt") as tensors:
            return dict.fromkeys(tensors.keys(), file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot read {file}: {error}; get the file anew") from error


def _indexed_files(folder: Path) -> dict[str, Path]:
    index = folder / INDEX
    try:
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
    except (ValueError, KeyError) as error:
        raise ModelError(f"{index} is not an index of safetensors: {error}") from error
    files = {name: folder / Path(file).name for name, file in weight_map.items()}
    for file in set(files.values()):
        if not file.is_file():
            raise ModelError(f"{index} names {file.name}, which is not in {folder}; get it anew")
    return files
