"""The three parts of a pre-trained model, filled with its numbers and those of its codes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from sft_common.config import PartsSpec
from sft_common.errors import ConfigError, ModelError
from sft_common.model.families import FAMILIES, Family, shape_of
from sft_common.model.filling import fill
from sft_common.model.heads import HEAD_TABLE, Head, meta_model
from sft_common.model.loading import Pretrained, freeze_shared
from sft_common.model.parts import PROMPTS, Body, BodyPart, Bridge, HeadPart, Parts, TailPart
from sft_common.model.prompts import first_prompts

CPU = torch.device("cpu")

NO_CODE: Mapping[str, Tensor] = MappingProxyType({})
"""Of cuts that code nothing."""


def pools_first(family: Family, head: Head) -> bool:
    """Return whether a head reads the first token's row alone."""
    return not head.logits_per_token(family)


def code_shapes(skeleton: nn.Module) -> dict[str, torch.Size]:
    """Return names and shapes of the codes in a part."""
    return {name: p.shape for name, p in skeleton.named_parameters() if ".cut." in name}


def blank_code(pretrained: Pretrained, spec: PartsSpec) -> dict[str, Tensor]:
    """Return zeros for all numbers of both codes, for whoever computes with none of them."""
    parting = Parting(pretrained, spec)
    shapes = {**parting.given_shapes(), **parting.body_shapes(), **parting.trained_shapes()}
    return {name: torch.zeros(shape) for name, shape in shapes.items() if ".cut." in name}


class Parting:
    """Makes the parts of one model; all who hold one must have the same codes.

    Args:
        pretrained: the model.
        spec: both cuts.
        code: numbers of both cuts' codes (codes.py), at least those of the parts that are made.

    Raises:
        ConfigError: the cuts do not fit the model or each other.
        ModelError: the family takes no prompts.
    """

    def __init__(
        self, pretrained: Pretrained, spec: PartsSpec, code: Mapping[str, Tensor] = NO_CODE
    ) -> None:
        self._pretrained, self.spec, self._code = pretrained, spec, code
        self._head, self._shape = HEAD_TABLE[pretrained.head], shape_of(pretrained.config)
        spec.check(self._shape)
        if spec.first_row and not pools_first(pretrained.family, self._head):
            raise ConfigError(f"first_row with the head {pretrained.head}, which reads every row")
        if pretrained.prepared is not None:
            raise ConfigError(
                f"{pretrained.checkpoint.folder.name} was prepared for "
                f"{pretrained.prepared.words()}; three parts are made of one that was not prepared"
            )
        if spec.prompts and not pretrained.family.takes_prompts:
            takes = ", ".join(sorted(name for name in FAMILIES if FAMILIES[name].takes_prompts))
            raise ModelError(
                f"models of family {pretrained.config.model_type!r} take no prompts; these do: "
                f"{takes}"
            )

    def head(self, *, seed: int) -> HeadPart:
        """Return the head with fresh prompts, in evaluation mode.

        Raises:
            ConfigError: its share of a code is missing.
            ModelError: the checkpoint lacks a tensor.
        """
        prompts = first_prompts(self.spec.prompts, self._shape.hidden, seed)
        head = HeadPart(self._skeleton(), self.spec, prompts)
        self._fill(head.skeleton)
        return head.eval()

    def blank_body(self) -> BodyPart:
        """Return the body on the meta device, once its share of the codes is known to be there.

        Raises:
            ConfigError: it is not.
        """
        body = BodyPart(self._skeleton(), self.spec)
        self._check_code(body.skeleton)
        return body.eval()

    def body(self, *, device: torch.device = CPU) -> BodyPart:
        """Return the body, in evaluation mode; raises as `head`."""
        body = self.blank_body()
        self._fill(body.skeleton, device=device)
        return body

    def tail(self, *, seed: int) -> TailPart:
        """Return the tail; what is fresh of it is as in the unsplit model of the seed.

        Raises as `head`.
        """
        tail = TailPart(self._skeleton(), self.spec)
        self._fill(tail.skeleton, seed=seed)
        freeze_shared(tail.skeleton, self._pretrained.family)
        return tail

    def bridge(self) -> Bridge:
        """Return the way past the body, in evaluation mode; raises as `head`."""
        bridge = Bridge(self._skeleton(), self.spec)
        self._fill(bridge.skeleton)
        return bridge.eval()

    def parts(self, *, seed: int, body: Body | None = None) -> Parts:
        """Return all that a client holds, around a body; raises as `head`.

        Args:
            seed: of prompts and fresh head.
            body: the body, here or elsewhere; None for later, if at all.
        """
        return Parts(
            self.spec, self.head(seed=seed), body, self.tail(seed=seed), self.bridge(), self._head
        )

    def trained_shapes(self) -> dict[str, torch.Size]:
        """Return names and shapes of what `Parts.trained` will name; reads no tensor."""
        tail = TailPart(self._skeleton(), self.spec).skeleton
        freeze_shared(tail, self._pretrained.family)
        prompts = torch.Size([self.spec.prompts, self._shape.hidden])
        known = {PROMPTS: prompts} if self.spec.prompts else {}
        named = tail.named_parameters()
        return known | {name: p.shape for name, p in named if p.requires_grad}

    def given_shapes(self) -> dict[str, torch.Size]:
        """Return those of the codes that a client holds and does not train; reads no tensor."""
        head, bridge = self._blank_head(), Bridge(self._skeleton(), self.spec)
        return {**code_shapes(head.skeleton), **code_shapes(bridge.skeleton)}

    def head_shapes(self) -> dict[str, torch.Size]:
        """Return those of the head's share of the first code; reads no tensor."""
        return code_shapes(self._blank_head().skeleton)

    def body_shapes(self) -> dict[str, torch.Size]:
        """Return those of the body's share of both codes; reads no tensor."""
        return code_shapes(BodyPart(self._skeleton(), self.spec).skeleton)

    def _blank_head(self) -> HeadPart:
        return HeadPart(self._skeleton(), self.spec, first_prompts(0, self._shape.hidden, 0))

    def _skeleton(self) -> Any:
        return meta_model(self._pretrained.config, self._pretrained.head)

    def _fill(self, skeleton: Any, *, seed: int = 0, device: torch.device = CPU) -> None:
        self._check_code(skeleton)
        fill(skeleton, self._pretrained.checkpoint, self._code, seed=seed, device=device)

    def _check_code(self, skeleton: Any) -> None:
        """Refuse to fill a part whose share of a code is missing or has another shape.

        Raises:
            ConfigError: names what is wrong.
        """
        for split in (self.spec.first, self.spec.second):
            at = f"{self._pretrained.block_name(split)}.cut."
            for name, parameter in skeleton.named_parameters():
                if name.startswith(at) and name not in self._code:
                    raise ConfigError(
                        f"{split.words()} needs a code, and {name} was not given; a federation has "
                        'it for all of its clients: take part in one, or cut with "none"'
                    )
                if name.startswith(at) and self._code[name].shape != parameter.shape:
                    raise ConfigError(
                        f"{name} of the code has shape {tuple(self._code[name].shape)}, "
                        f"{split.words()} needs {tuple(parameter.shape)}"
                    )
