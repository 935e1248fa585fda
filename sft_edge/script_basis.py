"""The basis of a script's cut, found in the first batches of what its model is called with.

The model stays as it is, and so does every random state. It knows no session and no optimizer.

Legend: B batch, M padded length.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sft_common.config import SessionSpec
from sft_common.errors import ConfigError
from sft_common.model.calibration import calibrate
from sft_common.model.cuts import Basis
from sft_common.model.families import shape_of
from sft_common.model.randomness import exclusive_randomness
from sft_edge.surrender import cut_here
from sft_edge.wrapped import INPUTS


def script_basis(model: Any, spec: SessionSpec, batches: Iterable[Any]) -> Basis:
    """Return the basis of a cut, found as the command line finds it.

    Args:
        model: still whole; computes where it lies.
        spec: with a cut that has a basis.
        batches: each what the model is called with: a mapping, whose labels are passed over, or a
            tensor; or a pair of that and labels. No more of them are drawn than are needed.

    Raises:
        ConfigError: a batch is something else.
        DataError: there are too few tokens for the rank.
    """
    net1 = cut_here(_with_same_numbers(model), spec.split)
    with _undisturbed(batches, model.device):
        return calibrate(
            net1,
            (_example(model, batch) for batch in batches),
            rank=spec.split.rank,
            hidden=shape_of(model.config).hidden,
            balanced=spec.scaled,
            device=model.device,
            source="calibration",
        )


def _with_same_numbers(model: Any) -> Any:
    """Return a model of one's own to cut, whose parameters and buffers are the very same."""
    numbers = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in numbers})


def _example(model: Any, batch: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Return inputs of net1, and the mask (B, M) of real tokens."""
    if isinstance(batch, list | tuple) and 1 <= len(batch) <= 2:
        batch = batch[0]
    if isinstance(batch, Tensor):
        batch = {model.main_input_name: batch}
    if not isinstance(batch, Mapping) or model.main_input_name not in batch:
        raise ConfigError(
            f"calibration brought {_words(batch)}; each batch must be what the model is called "
            f"with: a mapping with {model.main_input_name}, or a tensor, alone or with labels"
        )
    inputs = {name: value for name, value in batch.items() if name in INPUTS and value is not None}
    given = inputs[model.main_input_name]
    tokens = given.shape[1] if given.ndim == 2 else shape_of(model.config).positions
    every = torch.ones(len(given), tokens)
    return inputs, inputs.get("attention_mask", every)


def _words(batch: Any) -> str:
    """Return what came, as a person is told."""
    if isinstance(batch, Mapping):
        return f"a mapping of {', '.join(map(str, batch)) or 'nothing'}"
    many = f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
    return f"a {type(batch).__name__}{many}"


@contextmanager
def _undisturbed(batches: Any, device: torch.device) -> Iterator[None]:
    """Restore every random state that drawing batches may move, a data loader's own too."""
    holders = (batches, getattr(batches, "sampler", None))
    own = [g for g in (getattr(each, "generator", None) for each in holders) if g is not None]
    states = [generator.get_state() for generator in own]
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with exclusive_randomness(*[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        for generator, state in zip(own, states, strict=True):
            generator.set_state(state)
