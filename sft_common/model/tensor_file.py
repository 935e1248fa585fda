"""Tensors to a safetensors file that has the permissions of any other file of the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, wherever they are.

    Raises:
        OSError, SafetensorError: the disk does not take them.
    """
    file.touch()
    mode = file.stat().st_mode  # safetensors puts a file of its own there, which ignores the umask
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(own, file, metadata={"format": "pt"})
    file.chmod(mode)
