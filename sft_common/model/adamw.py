"""AdamW with the parameter groups of SFT's released code, for both halves and the yardstick."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as step_of_adamw

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


def moments_of(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return all that an optimizer knows of a module's parameters, as "<parameter>:<what>".

    The tensors are its own, not copies. Before the first step there are none.
    """
    return {
        f"{name}:{what}": tensor
        for name, parameter in module.named_parameters()
        for what, tensor in optimizer.state.get(parameter, {}).items()
        if isinstance(tensor, Tensor)  # SGD notes that it has no momentum yet
    }


def set_moments(
    optimizer: torch.optim.Optimizer, module: nn.Module, moments: Mapping[str, Tensor]
) -> None:
    """Give an optimizer what `moments_of` returned; it takes copies."""
    optimizer.state.clear()
    parameters = dict(module.named_parameters())
    for name, tensor in moments.items():
        owner, _, what = name.rpartition(":")
        parameter = parameters[owner]
        optimizer.state[parameter][what] = tensor.to(parameter.device, copy=True)


class RowsOfStep:
    """A step of AdamW with one parameter, taken for some of its rows at a time.

    Args:
        optimizer: holds the parameter and its moments; counts the step now, by its settings of now.
        parameter: of any number V of rows, shape (V, N); its gradient is not looked at.
    """

    def __init__(self, optimizer: torch.optim.AdamW, parameter: Tensor) -> None:
        groups = optimizer.param_groups
        (group,) = (g for g in groups if any(p is parameter for p in g["params"]))
        self._settings = {name: group[name] for name in ("lr", "weight_decay", "eps")}
        self._settings["beta1"], self._settings["beta2"] = group["betas"]
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        self._steps_before = state["step"].clone()
        state["step"] += 1
        self._weight = parameter
        self._moments = state["exp_avg"], state["exp_avg_sq"]

    def take(self, rows: slice, gradient_KN: Tensor) -> None:
        """Take the step for some rows, with their gradient."""
        self._update(self._weight[rows], gradient_KN, *(moment[rows] for moment in self._moments))

    def result(self, rows_K: Tensor, gradient_KN: Tensor) -> Tensor:
        """Return what the step would make of some rows, (K, N); nothing changes."""
        weight_KN = self._weight[rows_K]
        self._update(weight_KN, gradient_KN, *(moment[rows_K] for moment in self._moments))
        return weight_KN

    def _update(
        self, weight: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor
    ) -> None:
        step = self._steps_before.clone()  # counts itself
        step_of_adamw(
            [weight],
            [gradient],
            [exp_avg],
            [exp_avg_sq],
            [],
            [step],
            fused=True,
            amsgrad=False,
            maximize=False,
            **self._settings,
        )
