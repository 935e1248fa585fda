"""A model in three parts (SFPrompt): head and tail on a client, the body between them elsewhere.

Head and body are frozen and compute in evaluation mode; soft prompts and the tail train. Each part
is a stock model cut twice by partition.py's surgery, so every parameter keeps its stock name.

Legend: B batch, M sequence (with its prompts, where there are any), N hidden width, W1 and W2 width
on the wire of both cuts, C classes, k prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from sft_common.config import PartsSpec
from sft_common.errors import ModelError
from sft_common.model.families import family_of
from sft_common.model.filling import copy_into
from sft_common.model.heads import Head
from sft_common.model.partition import (
    EdgeBlock,
    Net1,
    Net2,
    bridge_of,
    cloud_half_of,
    edge_half_of,
)
from sft_common.model.prompts import mask_with_prompts, with_prompts, without_prompts

PROMPTS = "prompts"
"""Name of the soft prompts among what is trained."""


class HeadPart(Net1):
    """Embeddings, soft prompts behind the first token, and blocks up to the first cut.

    Args:
        skeleton: a stock model with a head, whole; cut in place.
        spec: both cuts.
        prompts: what the soft prompts start from, (k, N).
    """

    def __init__(self, skeleton: Any, spec: PartsSpec, prompts: Tensor) -> None:
        net1, family = edge_half_of(skeleton, spec.first), family_of(skeleton.config)
        super().__init__(net1.skeleton, net1.block_name)
        self.prompts = nn.Parameter(prompts)
        self._inserts = False
        self.skeleton.requires_grad_(False)
        backbone = skeleton.get_submodule(skeleton.base_model_prefix)
        below = (family.embeddings, *family.after_embeddings)
        last = [path for path in below if getattr(backbone, path, None) is not None][-1]
        backbone.get_submodule(last).register_forward_hook(self._insert)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, inputs: dict[str, Tensor], *, prompted: bool = True) -> Tensor:
        """Return the activation of the first cut, (B, M, W1).

        Args:
            inputs: as of `Net1.forward`.
            prompted: whether the soft prompts are put in.
        """
        return self.block.send(self._run(inputs, prompted))

    def stream(self, inputs: dict[str, Tensor], *, prompted: bool = True) -> Tensor:
        """Return the stream at the first cut, (B, M, N); arguments as above.

        It is that behind the attention of its block, or with an -end cut at the block's end.
        """
        return self.block.end(self._run(inputs, prompted))

    def _run(self, inputs: dict[str, Tensor], prompted: bool) -> Tensor:
        self._inserts = prompted and len(self.prompts) > 0
        if self._inserts and (mask_BM := inputs.get("attention_mask")) is not None:
            longer = mask_with_prompts(mask_BM, len(self.prompts))
            inputs = {**inputs, "attention_mask": longer}
        self.skeleton.get_submodule(self.skeleton.base_model_prefix)(**inputs)
        return self.block.take()

    def _insert(self, _module: nn.Module, _given: Any, stream_BMN: Tensor) -> Tensor | None:
        return with_prompts(stream_BMN, self.prompts) if self._inserts else None


class BodyPart(Net2):
    """From the first cut to the second; has no state of its own.

    Args:
        skeleton: a stock model with a head, whole; cut in place.
        spec: both cuts.
    """

    def __init__(self, skeleton: Any, spec: PartsSpec) -> None:
        net2 = cloud_half_of(skeleton, spec.first)
        self._first_row, last = spec.first_row, edge_half_of(skeleton, spec.second)
        super().__init__(net2.skeleton, net2.block_name)
        self._last_name = last.block_name
        self.skeleton.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        """Return what the tail goes on with: (B, M, W2), or (B, W2) of the first tokens alone.

        Args:
            activation_BMW: of the first cut, (B, M, W1).
            attention_mask_BM: 1 for a real token or a prompt, 0 for padding, (B, M).
        """
        return super().forward(activation_BMW, attention_mask_BM)

    def _above(self, inputs: dict[str, Tensor]) -> Tensor:
        self.skeleton.get_submodule(self.skeleton.base_model_prefix)(**inputs)
        block = self.skeleton.get_submodule(self._last_name)
        assert isinstance(block, EdgeBlock)
        stream_BMN = block.take()
        return block.send(stream_BMN[:, 0] if self._first_row else stream_BMN)


class TailPart(Net2):
    """From the second cut to the logits.

    Args:
        skeleton: a stock model with a head, whole; cut in place.
        spec: both cuts.
    """

    def __init__(self, skeleton: Any, spec: PartsSpec) -> None:
        net2 = cloud_half_of(skeleton, spec.second)
        super().__init__(net2.skeleton, net2.block_name)

    def forward(self, activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        """Return the logits; their shape is the head's (heads.py), with a row for each prompt too.

        Args:
            activation_BMW: what the body gave, (B, M, W2), or (B, W2) of the first tokens.
            attention_mask_BM: as of the body.
        """
        if activation_BMW.ndim == 2:
            attention_mask_BM = attention_mask_BM.new_ones(len(activation_BMW), 1)
            activation_BMW = activation_BMW[:, None]
        return super().forward(activation_BMW, attention_mask_BM)


class Bridge(nn.Module):
    """The sender's share of the second cut, frozen: takes the stream of the first cut to the tail.

    Args:
        skeleton: a stock model with a head, whole; cut in place.
        spec: both cuts.
    """

    def __init__(self, skeleton: Any, spec: PartsSpec) -> None:
        super().__init__()
        net1 = bridge_of(skeleton, spec.second)
        self.skeleton, self._block_name = net1.skeleton, net1.block_name
        self.skeleton.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, stream: Tensor) -> Tensor:
        """Return what the tail goes on with, (..., W2), of the head's stream, (..., N)."""
        block = self.skeleton.get_submodule(self._block_name)
        assert isinstance(block, EdgeBlock)
        return block.bypass(stream)


class Body(Protocol):
    """A body, wherever it computes; as `BodyPart.forward`, and differentiable."""

    def __call__(self, activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        """Return what the tail goes on with."""


class Parts(nn.Module):
    """All three parts, called like a plain model; only soft prompts and tail train.

    Args:
        spec: both cuts.
        head: the first part.
        body: the second, here or elsewhere; None where only `local` is called.
        tail: the third.
        bridge: past the body.
        ends_in: what the tail ends in.
    """

    def __init__(
        self,
        spec: PartsSpec,
        head: HeadPart,
        body: Body | None,
        tail: TailPart,
        bridge: Bridge,
        ends_in: Head,
    ) -> None:
        super().__init__()
        self.head, self.body, self.tail, self.bridge = head, body, tail, bridge
        self._spec, self._ends_in = spec, ends_in

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the logits, in the shape of the head (heads.py); prompts have none.

        Args:
            inputs: as of `Net1.forward`; padding is on the right.
        """
        assert self.body is not None
        activation_BMW = self.head(inputs)
        mask_BM = self._mask(inputs, activation_BMW, prompted=True)
        rows = self.body(activation_BMW, mask_BM)
        return self._without(self.tail(rows, mask_BM), prompted=True)

    def local(self, inputs: dict[str, Tensor], *, prompted: bool = True) -> Tensor:
        """Return the logits of head and tail alone, the body left out, as `forward` does.

        Args:
            inputs: as of `forward`.
            prompted: whether the soft prompts are put in.
        """
        stream_BMN = self.head.stream(inputs, prompted=prompted)
        mask_BM = self._mask(inputs, stream_BMN, prompted=prompted)
        rows = self.bridge(stream_BMN[:, 0] if self._spec.first_row else stream_BMN)
        return self._without(self.tail(rows, mask_BM), prompted=prompted)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return what trains: the soft prompts, if any, and the tail's by their stock names."""
        prompts = {PROMPTS: self.head.prompts} if self._spec.prompts else {}
        tail = self.tail.skeleton.named_parameters()
        return prompts | {name: p for name, p in tail if p.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """Return copies of what trains, on the CPU, as `trained` names it."""
        return {name: p.detach().cpu().clone() for name, p in self.trained().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave.

        Raises:
            ModelError: it is the state of something else.
        """
        mine = self.trained()
        if other := sorted(mine.keys() ^ state.keys()):
            there = "lacks" if other[0] in mine else "has"
            raise ModelError(f"the state {there} {other[0]}, and {len(other) - 1} more differ")
        for name, parameter in mine.items():
            copy_into(parameter, state[name], name)

    def _mask(self, inputs: dict[str, Tensor], stream: Tensor, *, prompted: bool) -> Tensor:
        """Return 1 for each real token and each prompt, (B, M)."""
        mask_BM = inputs.get("attention_mask")
        if mask_BM is None:
            return torch.ones(stream.shape[:2], dtype=torch.long, device=stream.device)
        return mask_with_prompts(mask_BM, self._spec.prompts) if prompted else mask_BM

    def _without(self, logits: Tensor, *, prompted: bool) -> Tensor:
        if prompted and self._ends_in.per_token:
            return without_prompts(logits, self._spec.prompts)
        return logits
