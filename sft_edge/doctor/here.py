"""Whether the device is there, and whether net1 of a model fits into memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.model.prepared import prepared_split
from sft_common.model.sources import find_model
from sft_edge.defaults import usual_split
from sft_edge.device import device_named, memory_of
from sft_edge.doctor.finding import Finding, ok, warning, within, wrong

COPIES = 4
"""Of net1's trained parameters: weights, gradients, and the two moments of AdamW."""

SPARE = 2
"""Of what net1 takes should be free: batches, the program itself and others want memory too."""


def check_device(name: str) -> Finding:
    """Return whether a device is there; raises DeviceError if it is not."""
    device = device_named(name)
    if device.type == "cuda":
        return ok("device", f"{device} {torch.cuda.get_device_name(device)}")
    return ok("device", f"{device}, threads: {torch.get_num_threads()}")


def check_memory(device_name: str, model: str | None, seconds: float) -> Finding:
    """Return whether there is memory for net1 of a model.

    Args:
        device_name: where net1 is to run.
        model: its folder or hub id; None: it is only said what is free.
        seconds: how long to wait for the hub.

    Raises:
        SftError: there is no such device or model.
        OSError: this system does not say what is free, or the hub does not answer in time.
    """
    free, total = memory_of(device_named(device_name))
    found = f"{_gb(free)} of {_gb(total)} GB are free"
    if model is None:
        return ok("memory", f"{found}; --model says whether its net1 fits")
    split, needed = within(seconds, lambda: net1_bytes(model))
    found += f"; net1 of {model} takes {_gb(needed)} GB beside its batches ({split})"
    if needed > free:
        return wrong("memory", found, "choose a lower --split-layer, or free some")
    if SPARE * needed > free:
        return warning("memory", found, "choose a smaller --batch-size or a lower --split-layer")
    return ok("memory", found)


def net1_bytes(model: str) -> tuple[str, int]:
    """Return how a model is cut unless told otherwise, and the bytes that training net1 keeps.

    Raises:
        ModelError: there is no such model.
    """
    source = find_model(model)
    pretrained = Pretrained(source.folder, num_labels=2, weights=source.weights)
    shape = shape_of(pretrained.config)
    split = prepared_split(source.folder) or usual_split(shape)
    parameters = pretrained.net1(split).skeleton.parameters()
    where = f"cut {split.cut} in block {split.split_layer} of {shape.blocks}"
    return where, _kept_bytes(parameters)


def _kept_bytes(parameters: Iterable[Tensor]) -> int:
    return sum(
        parameter.numel() * parameter.element_size() * (COPIES if parameter.requires_grad else 1)
        for parameter in parameters
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:,.2f}"
