"""Heal a cut before any edge appears: distil the uncut model through it on public text. Pure torch.

The student is the model with its cut, both halves in one process; the teacher is the same model
without it. The student learns to have the teacher's hidden states, first in the cut block alone,
then in every block from it on, so that fine-tuning later starts from a model that the cut hurts
little.

Legend: B batch, M padded length, T real tokens, N hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sft_common.config import OptimizerSpec
from sft_common.errors import TrainingError
from sft_common.model.adamw import adamw, set_learning_rate
from sft_common.model.families import Family, blocks_of
from sft_common.model.partition import Net1, Net2, PassOn
from sft_common.wire.encodings import ENCODING_TABLE, Encoding

Inputs = dict[str, Tensor]


class Healer:
    """Distils a teacher into the two halves of a student.

    Args:
        teacher: the whole stock model.
        net1: the student's edge half.
        net2: its cloud half.
        family: the layout of all of them.
        split_layer: the block that is cut, 1 is the lowest.
        device: where all of it runs.
        precision: of the matrix products; the weights, their update and the loss are float32.
        encoding: how activations will travel; the student learns behind its rounding.
    """

    def __init__(
        self,
        teacher: Any,
        net1: Net1,
        net2: Net2,
        family: Family,
        *,
        split_layer: int,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        encoding: Encoding = ENCODING_TABLE["float32"],
    ) -> None:
        self._teacher = teacher.eval().requires_grad_(False).to(device)
        self._net1, self._net2 = net1.to(device), net2.to(device)
        self._family, self._at = family, split_layer - 1
        self._device, self._precision, self._encoding = device, precision, encoding
        self._optimizers = [adamw(half, OptimizerSpec()) for half in (net1, net2)]

    @contextmanager
    def cut_block_alone(self) -> Iterator[None]:
        """Leave out the blocks above the cut meanwhile: steps cost less and compare one block."""
        own = [
            (blocks, at, blocks[at])
            for blocks in (self._blocks(self._teacher), self._blocks(self._net2.skeleton))
            for at in range(self._at + 1, len(blocks))
        ]
        try:
            for blocks, at, _ in own:
                blocks[at] = PassOn(as_tuple=self._family.returns_tuple)
            yield
        finally:
            for blocks, at, block in own:
                blocks[at] = block

    def step(self, inputs: Inputs, learning_rate: float) -> float:
        """Learn from one batch; returns its loss before the update.

        Args:
            inputs: of the model, each (B, M), `attention_mask` among them.
            learning_rate: of this step.

        Raises:
            TrainingError: the loss is not a finite number; nothing was updated.
        """
        self._net1.train()
        self._net2.train()
        loss = self.loss({name: value.to(self._device) for name, value in inputs.items()})
        if not loss.isfinite():
            raise TrainingError(
                f"the relative error became {loss.item()}; choose a smaller --learning-rate"
            )
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self._optimizers:
            set_learning_rate(optimizer, learning_rate)
            optimizer.step()
        return loss.item()

    def loss(self, inputs: Inputs) -> Tensor:
        """Return the mean, over the blocks that run, of |student - teacher|^2 / |teacher - mean|^2.

        Args:
            inputs: each (B, M); only real tokens count.
        """
        real = inputs["attention_mask"].bool()
        reduced = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=reduced):
            with torch.no_grad(), self._listening(self._teacher) as taught:
                self._teacher(**inputs)
            with self._listening(self._net2.skeleton) as learned:
                activation_BMW = self._travelled(self._net1(inputs))
                self._net2(activation_BMW, inputs["attention_mask"])
        return torch.stack(
            [
                _relative_error(mine[real].float(), theirs[real].float())
                for mine, theirs in zip(learned, taught, strict=True)
            ]
        ).mean()

    def _travelled(self, activation_BMW: Tensor) -> Tensor:
        """Return an activation as it arrives; its gradient is that of what was sent."""
        sent_TW = activation_BMW.detach().flatten(0, 1).float()
        arrived_TW = self._encoding.decode(self._encoding.encode(sent_TW), sent_TW.shape[1])
        return activation_BMW + (arrived_TW - sent_TW).view_as(activation_BMW)

    @contextmanager
    def _listening(self, model: Any) -> Iterator[list[Tensor]]:
        """Collect the hidden states (B, M, N) that the blocks from the cut on put out."""
        heard: list[Tensor] = []
        hooks = [
            block.register_forward_hook(_keeping(heard))
            for block in self._blocks(model)[self._at :]
            if not isinstance(block, PassOn)
        ]
        try:
            yield heard
        finally:
            for hook in hooks:
                hook.remove()

    def _blocks(self, model: Any) -> nn.ModuleList:
        return blocks_of(model.get_submodule(model.base_model_prefix), self._family)


def _keeping(heard: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(_: nn.Module, __: Any, output: Any) -> None:
        heard.append(output[0] if isinstance(output, tuple) else output)

    return keep


def _relative_error(mine_TN: Tensor, theirs_TN: Tensor) -> Tensor:
    """Return the squared error as a share of the variance: blocks of large numbers do not rule."""
    variance = (theirs_TN - theirs_TN.mean(dim=0)).square().mean()
    return (mine_TN - theirs_TN).square().mean() / variance.clamp(min=torch.finfo().tiny)
