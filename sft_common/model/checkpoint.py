"""Read single tensors of a pre-trained checkpoint by their stock names. It knows files, not halves.

Only safetensors: a tensor is found by name and read without reading the others, and nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sft_common.errors import ModelError
from sft_common.model.hub.weights import HubWeights
from sft_common.model.index import INDEX, SINGLE, shards

DIGEST_ROWS = 8

_LEGACY = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))


class Checkpoint:
    """The safetensors of one model, single or sharded, in a folder or on the hub.

    Files saved from the bare backbone lack its prefix, files saved from another head may have it
    twice, some families have renamed their modules since, and files of 2018 call the norms' tensors
    gamma and beta: names are compared without prefix and with all of that undone.

    Args:
        folder: holds the files.
        prefixes: names of the backbone that stock or stored names may begin with.
        renamed: regular expressions and replacements that make today's names out of stored ones.
        weights: where the tensors are fetched from when they are read; None: from the folder.

    Raises:
        ModelError: the folder holds no safetensors, or they cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        prefixes: Iterable[str],
        renamed: Iterable[tuple[str, str]] = (),
        *,
        weights: HubWeights | None = None,
    ) -> None:
        self.folder = folder
        self._prefix = re.compile(f"^(?:(?:{'|'.join(map(re.escape, prefixes))})\\.)+")
        self._renamed = (*renamed, *_LEGACY)
        self._weights = weights
        self._place = str(folder) if weights is None else f"model {weights.repo!r}"
        self._file_of = _tensor_files(folder) if weights is None else weights.file_of()
        self._stored = {self._bare(name): name for name in self._file_of}

    def find(self, stock_name: str) -> str | None:
        """Return the name under which a tensor is stored, or None if it is not."""
        return self._stored.get(self._bare(stock_name))

    def _bare(self, name: str) -> str:
        bare = self._prefix.sub("", name)
        for pattern, replacement in self._renamed:
            bare = re.sub(pattern, replacement, bare)
        return bare

    def read(self, stock_name: str, *, rows: int | None = None) -> Tensor:
        """Return one tensor on the CPU; with `rows` only that many rows of a matrix.

        Raises:
            ModelError: the checkpoint does not have it, or its file is damaged or out of reach.
        """
        with self._view(stock_name, rows) as view:
            vector = len(view.get_shape()) < 2
            tensor: Tensor = view[:] if rows is None or vector else view[:rows]
        return tensor

    def others(self, stock_names: Iterable[str]) -> dict[str, Tensor]:
        """Return all tensors but those, by the names under which they are stored.

        Raises:
            ModelError: as `read`.
        """
        known = {self.find(name) for name in stock_names}
        return {name: self.read(name) for name in self._file_of if name not in known}

    def shape(self, stock_name: str) -> tuple[int, ...]:
        """Return the shape of one tensor, from its file's header alone.

        Raises:
            ModelError: as `read`.
        """
        with self._view(stock_name, rows=0) as view:
            return tuple(view.get_shape())

    def prefetch(self, stock_names: Iterable[str], *, rows: int | None = None) -> None:
        """Fetch tensors in few requests, for `read` to find; those that it lacks are left out.

        Raises:
            ModelError: they are out of reach.
        """
        if self._weights is not None:
            found = (self.find(name) for name in stock_names)
            self._weights.fetch((name for name in found if name is not None), rows=rows)

    @contextmanager
    def _view(self, stock_name: str, rows: int | None) -> Iterator[Any]:
        stored = self.find(stock_name)
        if stored is None:
            raise ModelError(f"{self._place} has no tensor {stock_name}; is it another model?")
        if self._weights is not None:  # what is not there yet would read as zeros
            self._weights.fetch([stored], rows=rows)
        file = self._file_of[stored]
        try:
            with safe_open(file, framework="pt") as tensors:
                yield tensors.get_slice(stored)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {stored} from {file}: {error}") from error

    def require(self, stock_names: Iterable[str]) -> None:
        """Refuse a checkpoint that lacks any of the tensors.

        Raises:
            ModelError: names the first one missing and how many more.
        """
        missing = [name for name in stock_names if self.find(name) is None]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelError(
                f"{self._place} has no tensor {missing[0]}{more}: "
                "its weights do not fit its config.json; get the folder anew"
            )

    def digest(self, stock_names: Iterable[str]) -> str:
        """Return the SHA-256 over some tensors, of matrices over the first rows; hexadecimal.

        Raises:
            ModelError: as `read`.
        """
        names = list(stock_names)
        self.prefetch(names, rows=DIGEST_ROWS)
        digest = hashlib.sha256()
        for name in names:
            head = self.read(name, rows=DIGEST_ROWS).float().contiguous()
            digest.update(head.numpy().tobytes())
        return digest.hexdigest()


def _tensor_files(folder: Path) -> dict[str, Path]:
    if (file_of := shards(folder)) is not None:
        return _indexed_files(folder, file_of)
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


def _indexed_files(folder: Path, file_of: dict[str, str]) -> dict[str, Path]:
    files = {name: folder / file for name, file in file_of.items()}
    for file in set(files.values()):
        if not file.is_file():
            raise ModelError(
                f"{folder / INDEX} names {file.name}, which is not in {folder}; get it anew"
            )
    return files
