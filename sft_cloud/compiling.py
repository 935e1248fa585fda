"""The blocks of net2 compiled by torch.compile. It knows no sessions.

Compiling takes a minute and serves all blocks alike. The first length gets code of its own, all
others share one; both want lengths that are a multiple of `BUCKET`.
"""

from __future__ import annotations

import torch

from sft_common.errors import DeviceError, first_line
from sft_common.model.families import Family, blocks_of
from sft_common.model.partition import Net2

BUCKET = 8
"""Tokens to a multiple of which examples are padded: so wide are the tiles of matrix products."""


def check_compiler(device: torch.device) -> None:
    """Compile next to nothing.

    Raises:
        DeviceError: this machine cannot; it lacks a C++ compiler, or Triton for its GPU.
    """
    try:
        torch.compile(lambda x: (x + 1).cos())(torch.zeros(8, device=device))
    except Exception as error:
        raise DeviceError(
            f"torch.compile does not work here: {first_line(error)}; install a C++ compiler, and "
            "for a GPU triton, or leave --compile out"
        ) from error


def compile_blocks(net2: Net2, family: Family, split_layer: int) -> int:
    """Have the blocks above the cut compiled when they first run; their names stay.

    Args:
        net2: with its numbers.
        family: of the model.
        split_layer: l.

    Returns:
        The bucket of lengths: `BUCKET`, but 1 for images, which know no padding.
    """
    backbone = net2.skeleton.get_submodule(net2.skeleton.base_model_prefix)
    for block in blocks_of(backbone, family)[split_layer:]:
        block.compile()
    return 1 if net2.skeleton.main_input_name == "pixel_values" else BUCKET
