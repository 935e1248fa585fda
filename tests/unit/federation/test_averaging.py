"""What an average is, what moments add up to, what a plan and its tensors may be."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_common.config import CUTS, ENCODINGS, ModelIdentity, SplitSpec
from sft_common.errors import ConfigError, ProtocolError, TrainingError
from sft_common.federation.averaging import Moments, Weighted, average
from sft_common.federation.plan import (
    FederationPlan,
    LocalTraining,
    Participation,
    Transfer,
    UpdatePrivacy,
)
from sft_common.federation.tensors import (
    check_all_finite,
    in_pieces,
    most_bytes,
    shapes_of,
    tensors_from_bytes,
    tensors_to_bytes,
)
from sft_common.model.cuts import basis_of_moments, principal_basis
from sft_common.rpc.federation import federation_from_proto, federation_to_proto

CUT = Transfer(split=SplitSpec(cut="stream", split_layer=2, rank=16), encoding="int8")


def plan(**changes: Any) -> FederationPlan:
    known: dict[str, Any] = {
        "name": "reviews",
        "method": "splitfed",
        "model": ModelIdentity(name="m", config_digest="c", weights_digest="w"),
        "labels": ("bad", "good"),
        "rounds": 3,
        "cut": CUT,
    }
    return FederationPlan(**{**known, **changes})


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.integers(0, 2**31))
def test_an_average_is_the_weighted_mean(weights: list[int], seed: int) -> None:
    chance = np.random.default_rng(seed)
    parts = [chance.normal(size=(3, 2)) for _ in weights]
    updates = [
        Weighted({"w": torch.tensor(part, dtype=torch.float32)}, weight)
        for part, weight in zip(parts, weights, strict=True)
    ]
    exact = np.average([part.astype(np.float32) for part in parts], axis=0, weights=weights)
    found = average(updates)
    assert found["w"].dtype == torch.float32
    np.testing.assert_allclose(found["w"].numpy(), exact, rtol=1e-6, atol=1e-7)


def test_the_average_of_equal_updates_is_what_each_of_them_is() -> None:
    weights = {"w": torch.randn(50)}
    found = average([Weighted(weights, 3), Weighted(weights, 4), Weighted(weights, 1)])
    assert torch.equal(found["w"], weights["w"])


def test_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    torch.manual_seed(0)
    rows = torch.randn(300, 12) @ torch.randn(12, 12) + 100  # far from 0: no square may cancel
    parts = [Moments.of(part) for part in (rows[:7], rows[7:120], rows[120:])]
    travelled = [Moments(m.tokens, m.mean.float(), m.scatter.float()) for m in parts]
    total = travelled[0].plus(travelled[1]).plus(travelled[2])
    whole = Moments.of(rows)
    assert total.tokens == 300
    assert torch.allclose(total.mean, whole.mean, rtol=1e-6)
    assert torch.allclose(total.scatter, whole.scatter, rtol=1e-3, atol=0.05)
    basis = basis_of_moments(total.mean, total.scatter / 299, 4, balanced=False)
    centred = principal_basis(rows, 4)
    back = (rows - basis.mean) @ basis.encoder @ basis.decoder + basis.mean
    best = (rows - centred.mean) @ centred.encoder @ centred.decoder + centred.mean
    assert float((rows - back).norm()) == pytest.approx(float((rows - best).norm()), rel=1e-3)


def test_tensors_come_back_as_they_went() -> None:
    tensors = {
        "a.weight": torch.randn(3, 4),
        "prompts": torch.randn(5, 2),
        "scalar": torch.ones(()),
    }
    data = tensors_to_bytes(tensors)
    assert b"".join(in_pieces(data)) == data
    assert len(data) <= most_bytes(shapes_of(tensors))
    again = tensors_from_bytes(data, shapes_of(tensors), "the update")
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert tensors_from_bytes(tensors_to_bytes({}), {}, "the update") == {}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"w": torch.ones(3)}, r"tensor 'w' is float32 of shape \(3,\); float32 of \(2,\)"),
        ({"v": torch.ones(2)}, "tensor 'v' does not belong there"),
        ({}, "tensor 'w' is missing"),
        ({"w": torch.ones(2), "x": torch.ones(1)}, "tensor 'x' does not belong there"),
    ],
)
def test_other_tensors_are_refused(tensors: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(ProtocolError, match=f"the update: {said}"):
        tensors_from_bytes(tensors_to_bytes(tensors), {"w": torch.Size([2])}, "the update")


@given(st.binary(max_size=300))
def test_rubbish_is_refused_in_a_line(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        tensors_from_bytes(data, {"w": torch.Size([2])}, "the update")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_found(bad: float) -> None:
    check_all_finite({"w": torch.ones(3)}, "the update")
    with pytest.raises(TrainingError, match="the update: tensor 'v' holds numbers that are not"):
        check_all_finite({"w": torch.ones(3), "v": torch.tensor([1.0, bad])}, "the update")


splits = st.builds(
    SplitSpec, cut=st.sampled_from(CUTS), split_layer=st.integers(1, 12), rank=st.integers(1, 99)
)
transfers = st.builds(
    Transfer,
    split=splits,
    encoding=st.sampled_from(ENCODINGS),
    gradient_encoding=st.sampled_from(ENCODINGS),
)


@given(
    cut=transfers,
    tail=transfers,
    dropout=st.none() | st.floats(0, 0.9),
    privacy=st.none() | st.builds(UpdatePrivacy, clip=st.floats(0.1, 9), noise=st.floats(0.1, 9)),
)
def test_a_plan_is_read_as_it_was_written(
    cut: Transfer, tail: Transfer, dropout: float | None, privacy: UpdatePrivacy | None
) -> None:
    known = plan(
        method="sfprompt",
        cut=cut,
        tail=tail,
        training=LocalTraining(epochs=4, dropout=dropout, keep=0.25),
        clients=Participation(per_round=9, minimum=5, quorum=2, round_seconds=7.5),
        privacy=privacy,
    )
    assert federation_from_proto(federation_to_proto(known)) == known


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "federation 'a/b': a name has 1 to 64"),
        ({"method": "fedprox"}, "unknown method 'fedprox'"),
        ({"method": "fedavg"}, "method fedavg takes no cut"),
        ({"cut": None}, "method splitfed needs a cut"),
        ({"tail": CUT}, "method splitfed takes no tail"),
        ({"rounds": 0}, "rounds: 0 is outside 1"),
        ({"labels": ("one",)}, "1 labels: kind 'text' takes 2 to"),
        ({"labels": ("a", "a")}, "a label stands twice"),
        ({"kind": "similarity"}, "kind 'similarity' has numbers to learn"),
        ({"kind": "song"}, "kind 'song': method splitfed takes one of: text, similarity, image"),
        (
            {"method": "sfprompt", "tail": CUT, "kind": "similarity", "labels": ()},
            "takes one of: t",
        ),
        ({"seed": -1}, "seed: -1 is outside"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(**changes)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (Participation, {"minimum": 0}, "minimum of clients: 0 is outside"),
        (Participation, {"minimum": 9, "quorum": 6}, "quorum: 6 is outside 1..5"),
        (Participation, {"quorum": 6}, "quorum: 6 is outside 1..5"),
        (Participation, {"round_seconds": 0}, "seconds of a round: 0 is outside"),
        (LocalTraining, {"keep": 0}, "share to keep: 0 is outside"),
        (LocalTraining, {"keep": 1.5}, "share to keep: 1.5 is outside"),
        (LocalTraining, {"learning_rate": float("nan")}, "learning rate: nan is outside"),
        (LocalTraining, {"dropout": 1.0}, "dropout 1.0 is outside"),
        (UpdatePrivacy, {"clip": 0, "noise": 1}, "clip: 0 is outside"),
        (UpdatePrivacy, {"clip": 1, "noise": 1, "delta": 1}, "delta: 1 is outside"),
    ],
)
def test_its_parts_have_ranges(kind: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        kind(**changes)


def test_seeds_differ_by_round_try_and_client_and_fit_a_session() -> None:
    known = plan()
    seeds = {known.seed_of(r, n, c) for r in (1, 2) for n in (1, 2) for c in ("a", "b")}
    assert len(seeds) == 8 and all(0 <= seed < 2**63 for seed in seeds)
    other = dataclasses.replace(known, seed=1)
    assert other.seed_of(1, 1, "a") not in seeds
    assert known.session(known.seed_of(1, 1, "a"), max_examples=4, max_tokens=8).federation
