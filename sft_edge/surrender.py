"""A script's model and optimizer give up net2: what goes, what stays, what stands in.

It knows models and optimizers; it knows no session.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig

from sft_common.config import ModelIdentity, SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.cuts import CUT_TABLE, factor
from sft_common.model.families import family_of
from sft_common.model.filling import copy_into
from sft_common.model.identity import config_digest
from sft_common.model.loading import dropouts_of
from sft_common.model.partition import Net1, cloud_half, edge_half_of
from sft_common.model.sources import find_model
from sft_edge.job import name_for
from sft_edge.standin import StandIn


class Surrender:
    """What becomes of a script's model where it is cut.

    Args:
        model: still whole.
        split: where and how.
        head: what it ends in.
    """

    def __init__(self, model: Any, split: SplitSpec, head: str) -> None:
        self._model, self._split = model, split
        family = family_of(model.config)
        half = cloud_half(model.config, split, head)
        self._at = f"{half.block_name}.cut"
        paths = CUT_TABLE[split.cut].factored(family.block)
        self._factored = [f"{half.block_name}.{path}.weight" for path in paths]
        factors = {}
        if paths:
            weights = [family.block.matrix(model.get_parameter(name)) for name in self._factored]
            self._u, sigma, v = factor(torch.cat(weights, dim=1), split.rank)
            factors = {f"{self._at}.sigma": sigma, f"{self._at}.v": v}
        names = [name for name, _ in half.skeleton.named_parameters()]
        self.net2 = {n: factors[n] if n in factors else model.get_parameter(n) for n in names}
        """Every parameter of net2, by stock name."""

    def groups_of(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, ...]]:
        """Return the names of net2's parameters that belong to each group of an optimizer.

        Factors belong where the weight was that they stand for.
        """
        group_of = {id(p): n for n, g in enumerate(optimizer.param_groups) for p in g["params"]}
        names: list[list[str]] = [[] for _ in optimizer.param_groups]
        for name in self.net2:
            stock = self._factored[0] if name.startswith(self._at) else name
            weight = self._model.get_parameter(stock)
            if weight.requires_grad and id(weight) in group_of:
                names[group_of[id(weight)]].append(name)
        return [tuple(each) for each in names]

    def surrender(self, optimizer: torch.optim.Optimizer) -> tuple[Net1, list[StandIn]]:
        """Cut the model in place, and leave its optimizer what stays here.

        Returns:
            Net1, and what stands in for the rest, one for each group.
        """
        group_of = {id(p): g for g in optimizer.param_groups for p in g["params"]}
        factored = self._model.get_parameter(self._factored[0]) if self._factored else None
        net1 = edge_half_of(self._model, self._split)
        if factored is not None:
            net1.block.cut.to_empty(device=factored.device)
            u = net1.block.cut.get_parameter("u")
            copy_into(u, self._u, "u")
            u.requires_grad_(factored.requires_grad)
            if (group := group_of.get(id(factored))) is not None:
                group["params"].append(u)
        mine = {id(parameter) for parameter in net1.parameters()}
        stand_ins = []
        for number, group in enumerate(optimizer.param_groups):
            stand_in = StandIn()
            self._model.register_parameter(f"net2_group_{number}", stand_in)
            group["params"] = [*(p for p in group["params"] if id(p) in mine), stand_in]
            stand_ins.append(stand_in)
        return net1, stand_ins


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
