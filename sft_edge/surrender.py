"""A script's model and optimizer give up net2: what goes, what stays, what stands in.

It knows models and optimizers; it knows no session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from sft_common.config import ModelIdentity, SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.cuts import CUT_TABLE, Basis, Factors, factor
from sft_common.model.families import family_of
from sft_common.model.identity import config_digest
from sft_common.model.loading import dropouts_of, freeze_shared, set_basis, set_edge_factor
from sft_common.model.partition import Net1, cloud_half, edge_half_of
from sft_common.model.sources import find_model
from sft_edge.job import name_for
from sft_edge.standin import StandIn


class Surrender:
    """What becomes of a script's model where it is cut.

    Args:
        model: still whole; what both halves will hold of it stops training.
        split: where and how.
        head: what it ends in.
    """

    def __init__(self, model: Any, split: SplitSpec, head: str) -> None:
        self._model, self._split = model, split
        self._cut, self._family = CUT_TABLE[split.cut], family_of(model.config)
        freeze_shared(model, self._family)
        half = cloud_half(model.config, split, head)
        self._block, self._at = half.block_name, f"{half.block_name}.cut"
        self._names = {name: p.ndim for name, p in half.skeleton.named_parameters()}
        self._code: Factors | Basis | None = None

    def net2(self, find: Callable[[], Basis] | None) -> dict[str, Tensor]:
        """Return every parameter of net2, by stock name; those of the cut are computed.

        Args:
            find: finds the basis of a cut that has one.
        """
        share: dict[str, Tensor] = {}
        if find is not None:
            self._code = basis = find()
            share = {"mean": basis.mean, "decoder": basis.decoder}
        elif self._cut.code == "factors":
            weight = self._cut.weight(self._family.block, self._weight)
            self._code = factors = factor(weight, self._split.rank)
            share = {"sigma": factors.sigma, "v": factors.v}
        code = {f"{self._at}.{name}": value for name, value in share.items()}
        return {n: code[n] if n in code else self._model.get_parameter(n) for n in self._names}

    def groups_of(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, ...]]:
        """Return the names of net2's parameters that belong to each group of an optimizer."""
        group_of = {id(p): n for n, g in enumerate(optimizer.param_groups) for p in g["params"]}
        names: list[list[str]] = [[] for _ in optimizer.param_groups]
        for name, dimensions in self._names.items():
            in_cut = name.startswith(f"{self._at}.")
            weight = self._like(dimensions) if in_cut else self._model.get_parameter(name)
            if weight.requires_grad and id(weight) in group_of:
                names[group_of[id(weight)]].append(name)
        return [tuple(each) for each in names]

    def surrender(self, optimizer: torch.optim.Optimizer) -> tuple[Net1, list[StandIn]]:
        """Cut the model in place, and leave its optimizer what stays here.

        Returns:
            Net1, and what stands in for the rest, one for each group.
        """
        group_of = {id(p): g for g in optimizer.param_groups for p in g["params"]}
        like = {dimensions: self._like(dimensions) for dimensions in (1, 2)}
        net1 = cut_here(self._model, self._split)
        if isinstance(self._code, Basis):
            set_basis(net1, self._code)
        elif self._code is not None:
            set_edge_factor(net1, self._code.u)
        for parameter in net1.block.cut.parameters():
            stock = like[parameter.ndim]
            parameter.requires_grad_(stock.requires_grad)
            if (group := group_of.get(id(stock))) is not None:
                group["params"].append(parameter)
        mine = {id(parameter) for parameter in net1.parameters()}
        stand_ins = []
        for number, group in enumerate(optimizer.param_groups):
            stand_in = StandIn()
            self._model.register_parameter(f"net2_group_{number}", stand_in)
            group["params"] = [*(p for p in group["params"] if id(p) in mine), stand_in]
            stand_ins.append(stand_in)
        return net1, stand_ins

    def _like(self, dimensions: int) -> nn.Parameter:
        """Return the parameter of the whole model that one of the cut is trained like.

        Matrices like the weight that they stand for, or stand before: the feed-forward layer's;
        vectors like that layer's norm. So a group that spares biases and norms from decay spares
        the vectors, and what is frozen stays frozen.
        """
        layout = self._family.block
        matrix = (self._cut.factored(layout) or layout.projections)[0]
        return self._weight(matrix if dimensions > 1 else layout.norm)

    def _weight(self, path: str) -> nn.Parameter:
        weight: nn.Parameter = self._model.get_parameter(f"{self._block}.{path}.weight")
        return weight


def cut_here(model: Any, split: SplitSpec) -> Net1:
    """Make net1 out of a model, in place; the numbers of its cut are still to come."""
    net1 = edge_half_of(model, split)
    net1.block.cut.to_empty(device=model.device).to(model.dtype)
    return net1


def identity_of(model: Any, server: str) -> ModelIdentity:
    """Return what to call a model towards the cloud; which weights are meant, digests will say."""
    name = model.config.name_or_path
    if not name:
        raise ConfigError("the model does not say where it came from; load it with from_pretrained")
    source = find_model(name)
    return ModelIdentity(
        name=name_for(server, source),
        revision=source.revision,
        config_digest=config_digest(model.config),
    )


def dropout_of(config: Any) -> float | None:
    """Return the dropout of net2 if it is another than the model's own.

    Raises:
        ConfigError: the script has changed some dropouts and not others.
    """
    own = AutoConfig.from_pretrained(config.name_or_path)
    now, before = (dropouts_of(each) for each in (config, own))
    if now == before:
        return None
    rates = {rate for rate in now.values() if rate is not None}
    if len(rates) != 1:
        raise ConfigError(
            f"the model's dropouts are {now}, in its folder {before}; only all of them together "
            "can be changed for net2"
        )
    return float(rates.pop())
