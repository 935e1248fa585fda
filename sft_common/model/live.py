"""A model that a script has loaded, as what a cloud makes net2 of. It knows no RPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sft_common.config import ModelIdentity, SplitSpec
from sft_common.errors import MismatchError, ProtocolError
from sft_common.model.families import family_of
from sft_common.model.filling import copy_into
from sft_common.model.heads import classes_of
from sft_common.model.identity import config_digest
from sft_common.model.partition import Net2, cloud_half_of


class LiveModel:
    """A script's model, of which only net2 is left; the numbers of its cut are zeros at first.

    Args:
        model: a stock transformers model with a head; it is cut in place.
        head: what it ends in.
        split: where and how.

    Raises:
        ConfigError: the cut does not fit the model.
        ModelError: the family is not supported.
    """

    def __init__(self, model: Any, head: str, split: SplitSpec) -> None:
        self.config, self.head = model.config, head
        self.family, self._digest = family_of(model.config), config_digest(model.config)
        self._split, self._net2 = split, cloud_half_of(model, split)
        code = self._net2.skeleton.get_submodule(f"{self._net2.block_name}.cut")
        code.to_empty(device="cpu")
        for parameter in code.parameters():
            torch.nn.init.zeros_(parameter)

    @property
    def classes(self) -> int:
        """C."""
        return classes_of(self.config, self.head)

    def check_same(self, edge: ModelIdentity) -> None:
        """Refuse an edge whose script has loaded a model of another shape.

        Raises:
            MismatchError: shows both digests.
        """
        if edge.config_digest != self._digest:
            raise MismatchError(
                f"the edge's script has loaded {edge.name} with another configuration: digest "
                f"{edge.config_digest[:12]} there, {self._digest[:12]} here; load the same model"
            )

    def net2(
        self,
        split: SplitSpec,
        *,
        seed: int,
        device: torch.device,
        basis: tuple[Tensor, Tensor] | None = None,
        trained: Mapping[str, Tensor] | None = None,
        edge_has: bool = False,
    ) -> tuple[Net2, Tensor | None]:
        """Return net2; arguments as of `Pretrained.net2`.

        Raises:
            ProtocolError: the edge does not say what it has of net2, so that it is no script's.
        """
        if not (edge_has or trained):
            raise ProtocolError(
                "this cloud is a training script's own and serves the edge of that script; others "
                "want sft-cloud serve"
            )
        assert split == self._split
        for name, value in (trained or {}).items():
            copy_into(self._net2.skeleton.get_parameter(name), value, name)
        return self._net2.to(device), None
