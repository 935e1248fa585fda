"""AdamW with the parameter groups of SFT's released code, for both halves and the yardstick."""

from __future__ import annotations

import torch
from torch import nn

from sft_common.config import OptimizerSpec


def adamw(module: nn.Module, spec: OptimizerSpec) -> torch.optim.AdamW:
    """Return AdamW over a module: matrices decay, vectors (biases, norms) do not.

    The learning rate starts at 0: set it before every step with `set_learning_rate`.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=0.0, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
