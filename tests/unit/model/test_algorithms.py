"""Optimizers of training scripts, told to another machine."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sft_common.errors import ConfigError
from sft_common.model.algorithms import built, described, norms, update
from sft_common.own_optimizer import (
    ALGORITHMS,
    Group,
    GroupUpdate,
    OwnOptimizer,
    own_optimizer_from_facts,
)
from sft_common.rpc.spec import (
    own_optimizer_from_proto,
    own_optimizer_to_proto,
    update_from_proto,
    update_to_proto,
)

SETTINGS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Adam": {"amsgrad": True, "betas": (0.8, 0.95)},
    "Adagrad": {"initial_accumulator_value": 0.5},
}
"""Not all of them as usual."""


def make() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def mine(algorithm: str, module: nn.Module) -> torch.optim.Optimizer:
    """Return a script's optimizer: two groups, one parameter in neither."""
    weights = [module[0].weight, module[1].weight]  # type: ignore[index]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": [module[0].bias]}]  # type: ignore[index]
    made: torch.optim.Optimizer = getattr(torch.optim, algorithm)(
        groups, **SETTINGS.get(algorithm, {})
    )
    return made


NAMES = [("0.weight", "1.weight"), ("0.bias",)]


def backward(module: nn.Module, step: int) -> None:
    torch.manual_seed(step)
    module(torch.randn(5, 4)).square().sum().backward()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_other_side_takes_the_very_steps(algorithm: str) -> None:
    """With a rate that changes, clipped gradients, and a group without gradients now and then."""
    here, there = make(), make()
    optimizer = mine(algorithm, here)
    told = own_optimizer_from_proto(own_optimizer_to_proto(described(optimizer, NAMES)))
    twin = built(there, told)
    assert not there[1].bias.requires_grad  # type: ignore[index]
    here[1].bias.requires_grad_(False)  # type: ignore[index]
    for step in range(6):
        for module in (here, there):
            backward(module, step)
        optimizer.param_groups[0]["lr"] *= 0.7
        scale, skipped = (0.25, 1.0), (False, step == 3)
        for group, factor, skip in zip(optimizer.param_groups, scale, skipped, strict=True):
            for parameter in group["params"]:
                parameter.grad = None if skip else parameter.grad * factor
        updates = [
            GroupUpdate(settings={"lr": (optimizer.param_groups[0]["lr"],)}, scale=scale[0]),
            GroupUpdate(settings={}, skipped=skipped[1]),
        ]
        update(twin, algorithm, [update_from_proto(update_to_proto(each)) for each in updates])
        for each in (optimizer, twin):
            each.step()
            each.zero_grad()
    for (name, weight), (_, other) in zip(
        here.named_parameters(), there.named_parameters(), strict=True
    ):
        assert torch.equal(weight, other), name
    assert not torch.equal(there[0].weight, make()[0].weight)  # type: ignore[index]


def test_norms_are_those_of_each_group() -> None:
    module = make()
    optimizer = mine("Adam", module)
    assert norms(optimizer) == [0, 0]
    backward(module, 0)
    first = torch.cat([module[n].weight.grad.flatten() for n in (0, 1)])  # type: ignore[index]
    assert norms(optimizer) == pytest.approx(
        [first.norm().item(), module[0].bias.grad.norm().item()]
    )  # type: ignore[index]


names = st.text(max_size=20)
settings = st.dictionaries(names, st.lists(st.floats(allow_nan=False), max_size=3).map(tuple))


@given(
    st.sampled_from(ALGORITHMS),
    st.lists(st.tuples(st.lists(names), settings), min_size=1, max_size=4),
)
def test_what_is_said_arrives(algorithm: str, parts: list[Any]) -> None:
    known = {name for named, _ in parts for name in named}
    unique = [tuple(n for n in dict.fromkeys(named) if n in known) for named, _ in parts]
    seen: set[str] = set()
    groups = []
    for named, (_, each) in zip(unique, parts, strict=True):
        groups.append(Group(parameters=tuple(n for n in named if n not in seen), settings=each))
        seen |= set(named)
    spec = OwnOptimizer(algorithm=algorithm, groups=tuple(groups))
    assert own_optimizer_from_proto(own_optimizer_to_proto(spec)) == spec
    assert own_optimizer_from_facts(json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def told() -> OwnOptimizer:
    return described(mine("Adam", make()), NAMES)


def changed(**settings: tuple[float, ...]) -> OwnOptimizer:
    first, second = told().groups
    group = dataclasses.replace(first, settings={**first.settings, **settings})
    return dataclasses.replace(told(), groups=(group, second))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (lambda: changed(lr=(-1.0,)), "optimizer Adam: Invalid learning rate: -1.0"),
        (lambda: changed(lr=(1e-3, 1e-3)), r"setting lr is \(0.001, 0.001\); 1 of"),
        (lambda: changed(lr=(float("nan"),)), r"setting lr is \(nan,\); 1 of -1e\+06 to 1e\+06"),
        (lambda: changed(betas=(0.9,)), r"setting betas is \(0.9,\); 2 of"),
        (lambda: changed(betas=(0.9, 1.0)), "optimizer Adam: Invalid beta parameter at index 1"),
        (lambda: changed(momentum=(0.9,)), "optimizer Adam has no setting 'momentum'"),
        (
            lambda: dataclasses.replace(
                told(), groups=(Group(parameters=("0.weight",), settings={}),)
            ),
            "optimizer Adam lacks its setting 'amsgrad'",
        ),
        (
            lambda: dataclasses.replace(
                told(), groups=(dataclasses.replace(told().groups[0], parameters=("9.bias",)),)
            ),
            "names '9.bias', which is no parameter of net2",
        ),
        (lambda: OwnOptimizer(algorithm="LBFGS", groups=()), "an optimizer 'LBFGS' cannot train"),
        (lambda: OwnOptimizer(algorithm="__class__", groups=()), "'__class__' cannot train"),
        (lambda: OwnOptimizer(algorithm="Adam", groups=()), "0 parameter groups; 1 to 1024 fit"),
        (
            lambda: OwnOptimizer(algorithm="Adam", groups=(told().groups[0],) * 2),
            "a parameter is in the optimizer's groups twice",
        ),
    ],
)
def test_what_does_not_fit_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(make(), spec())


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ([GroupUpdate(settings={})], "1 groups are to be updated, the optimizer has 2"),
        ([GroupUpdate(settings={"eps": (-1.0,)})] * 2, "optimizer Adam: Invalid epsilon value"),
    ],
)
def test_a_refused_update_changes_nothing(updates: list[GroupUpdate], message: str) -> None:
    module = make()
    optimizer = mine("Adam", module)
    backward(module, 0)
    before = copy.deepcopy(optimizer.state_dict()), module[0].weight.grad.clone()  # type: ignore[index]
    with pytest.raises(ConfigError, match=message):
        update(optimizer, "Adam", updates)
    assert (optimizer.state_dict(), True) == (
        before[0],
        torch.equal(before[1], module[0].weight.grad),  # type: ignore[index]
    )


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match=f"gradients are to be scaled by {scale}; 0 and up fit"):
        GroupUpdate(settings={}, scale=scale)


def test_an_optimizer_of_a_scripts_own_is_refused() -> None:
    class Adam(torch.optim.Adam):
        pass

    with pytest.raises(ConfigError, match=r"'tests.unit.model.test_algorithms.Adam' cannot train"):
        described(Adam(make().parameters()), [()])
