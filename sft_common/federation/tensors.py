"""Named tensors <-> the bytes of a safetensors file, checked against what must come.

It knows no messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from sft_common.errors import ProtocolError, TrainingError, first_line, printable

PIECE_BYTES = 2**20
"""Of a message that carries a part of them."""

HEADER_BYTES = 2**20
"""More than the names and shapes of any model take in a safetensors file."""

Shapes = Mapping[str, torch.Size]


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return float32 tensors as one file; empty if there are none."""
    if not tensors:
        return b""
    own = {name: t.detach().to("cpu", torch.float32).contiguous() for name, t in tensors.items()}
    return save(own)


def tensors_from_bytes(data: bytes, expected: Shapes, what: str) -> dict[str, Tensor]:
    """Return the tensors of a file, which are those expected and no others.

    Args:
        data: the file.
        expected: names and shapes.
        what: they are, for messages.

    Raises:
        ProtocolError: it is broken, or holds others.
    """
    return _expected(lambda: load(data) if data else {}, expected, what)


def tensors_from_file(path: Path, expected: Shapes, what: str) -> dict[str, Tensor]:
    """Return the same of a file on disk, which is read when its tensors are looked at.

    It may lose its name meanwhile; other arguments and errors as of `tensors_from_bytes`.

    Raises:
        OSError: it cannot be opened, or mapped.
    """
    return _expected(lambda: _mapped(path) if path.stat().st_size else {}, expected, what)


def _mapped(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except RuntimeError as error:
        if "mmap" in str(error):  # torch has no class of its own for it
            raise OSError(first_line(error)) from error
        raise


def _expected(
    read: Callable[[], dict[str, Tensor]], expected: Shapes, what: str
) -> dict[str, Tensor]:
    try:
        tensors = read()
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ProtocolError(f"{what} cannot be read: {first_line(error)}") from error
    if tensors.keys() != expected.keys():
        odd = min(tensors.keys() ^ expected.keys())
        how = "is missing" if odd in expected else "does not belong there"
        raise ProtocolError(f"{what}: tensor {printable(odd[:200])!r} {how}")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.shape != expected[name]:
            raise ProtocolError(
                f"{what}: tensor {name!r} is {str(tensor.dtype).removeprefix('torch.')} of shape "
                f"{tuple(tensor.shape)}; float32 of {tuple(expected[name])} was expected"
            )
    return tensors


def most_bytes(expected: Shapes) -> int:
    """Return how large a file of these tensors may be."""
    return HEADER_BYTES + sum(4 * shape.numel() for shape in expected.values())


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Return names and shapes."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def trained_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a module that train, by name; they stay its own."""
    return {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}


def check_all_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse numbers that are none.

    Raises:
        TrainingError: names the first tensor that has some.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise TrainingError(f"{what}: tensor {name!r} holds numbers that are not finite")


def in_pieces(data: bytes) -> Iterator[bytes]:
    """Yield a file in parts of at most `PIECE_BYTES`."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]
