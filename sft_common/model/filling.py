"""Give a model on the meta device memory and numbers. It knows checkpoints and seeds, not halves.

A model, whole or partitioned, gets the tensors that were handed over, those that the checkpoint has
under its stock names, and fresh values for what a pre-training checkpoint may lack.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sft_common.errors import ModelError
from sft_common.model.checkpoint import Checkpoint
from sft_common.model.randomness import exclusive_randomness, seed_cpu

SPREAD = 0.02
"""Standard deviation of numbers of no meaning, about that of fresh weights."""


def fill(
    skeleton: Any,
    checkpoint: Checkpoint,
    handed: Mapping[str, Tensor],
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> None:
    """Give a model on the meta device memory and numbers.

    Args:
        skeleton: a stock model, whole or partitioned.
        checkpoint: where the pre-trained tensors are.
        handed: stock name -> tensor, for parameters that no checkpoint has (factors).
        seed: of what the checkpoint may lack or have in another shape, the head and the pooler.
        device: where the numbers go.

    Raises:
        ModelError: the checkpoint lacks a tensor outside the head.
    """
    skeleton.to_empty(device="cpu")
    if getattr(skeleton.config, "tie_word_embeddings", False):
        skeleton.tie_weights()
    sources = sources_of(skeleton, checkpoint, handed)
    checkpoint.prefetch(sources.values())
    for name, parameter in skeleton.named_parameters():
        if name in handed:
            copy_into(parameter, handed[name], name)
        elif name in sources:
            copy_into(parameter, checkpoint.read(sources[name]), name)
    _initialise(skeleton, seed)
    skeleton.to(device)


def fill_at_random(skeleton: Any, seed: int) -> None:
    """Give a model on the meta device memory and numbers of no meaning, to see how fast it is."""
    skeleton.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in skeleton.parameters():  # those of the cut, which transformers leaves alone
            parameter.normal_(std=SPREAD, generator=generator)
    _initialise(skeleton, seed)


def sources_of(
    skeleton: Any, checkpoint: Checkpoint, handed: Mapping[str, Tensor]
) -> dict[str, str]:
    """Return parameter -> stock name of what it is filled with; those handed or fresh left out."""
    found: dict[str, str] = {}
    for name, parameter in skeleton.named_parameters():
        if name in handed:
            continue
        if not _may_be_fresh(skeleton, name):
            found[name] = name
        elif (source := _source_of(skeleton, checkpoint, name)) is not None:
            if checkpoint.shape(source) == parameter.shape:  # else a head of other classes
                found[name] = source
    return found


def _may_be_fresh(skeleton: Any, name: str) -> bool:
    """Return whether a pre-training checkpoint may lack a tensor: those of heads and poolers."""
    backbone = f"{skeleton.base_model_prefix}."
    return not name.startswith(backbone) or name.startswith(f"{backbone}pooler.")


def _source_of(skeleton: Any, checkpoint: Checkpoint, name: str) -> str | None:
    """Return the stock name to read a head's tensor from; tied ones are stored only once."""
    tied = getattr(skeleton, "_tied_weights_keys", None) or {}
    return next((n for n in (name, tied.get(name)) if n and checkpoint.find(n)), None)


def _has_unfilled(module: nn.Module) -> bool:
    """Return whether a module has numbers that neither checkpoint nor cut gave it."""
    if next(module.buffers(recurse=False), None) is not None:
        return True
    return any(not hasattr(p, "_is_hf_initialized") for p in module.parameters())


def copy_into(parameter: nn.Parameter, value: Tensor, name: str) -> None:
    """Give a parameter its numbers.

    Raises:
        ModelError: they have another shape.
    """
    if parameter.shape != value.shape:
        raise ModelError(
            f"tensor {name} has shape {tuple(value.shape)}, "
            f"the model needs {tuple(parameter.shape)}"
        )
    with torch.no_grad():
        parameter.copy_(value)
    # transformers' own mark: its initialisation leaves marked tensors alone.
    parameter._is_hf_initialized = True  # type: ignore[attr-defined]


def _initialise(skeleton: Any, seed: int) -> None:
    """Initialise what was not filled: fresh head parameters and buffers that no file holds.

    Each module draws from its own seed on the CPU, so that the numbers depend neither on which half
    it is in nor on the device.
    """
    with exclusive_randomness():
        for name, module in skeleton.named_modules():
            if not _has_unfilled(module):
                continue
            seed_cpu(seed ^ zlib.crc32(name.encode()))
            skeleton._init_weights(module)
    for parameter in skeleton.parameters():
        vars(parameter).pop("_is_hf_initialized", None)
