"""SessionSpec <-> pb.Open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sft_common import PROTOCOL_VERSION
from sft_common.autocast import AUTOCASTS, Autocast
from sft_common.config import (
    CUTS,
    ENCODINGS,
    HEADS,
    MAX_PROMPTS,
    TAIL_CUTS,
    ModelIdentity,
    OptimizerSpec,
    SessionSpec,
    SplitSpec,
    TailSpec,
)
from sft_common.errors import ConfigError, MismatchError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.plan import Plan
from sft_common.rpc.spec import (
    MAX_SNAPSHOTS,
    autocast_from_proto,
    autocast_to_proto,
    basis_from_proto,
    basis_to_proto,
    plan_from_proto,
    plan_to_proto,
    return_from_proto,
    spec_from_proto,
    spec_to_proto,
)

SHARE = st.floats(0, 0.999)
TEXT = st.text().map(lambda text: "".join(filter(str.isprintable, text)))


def splits(cuts: tuple[str, ...]) -> st.SearchStrategy[SplitSpec]:
    return st.builds(
        SplitSpec,
        cut=st.sampled_from(cuts),
        split_layer=st.integers(0, 2**32 - 1),
        rank=st.integers(0, 2**32 - 1),
        decoder_layers=st.integers(0, 2**32 - 1),
    )


TAILS = st.builds(
    TailSpec,
    split=splits(TAIL_CUTS),
    encoding=st.sampled_from(ENCODINGS),
    gradient_encoding=st.sampled_from(ENCODINGS),
    first_row=st.booleans(),
)
PARTS = st.just({}) | st.fixed_dictionaries({"tail": TAILS, "prompts": st.integers(0, MAX_PROMPTS)})
SPECS = st.builds(
    SessionSpec,
    model=st.builds(
        ModelIdentity,
        name=TEXT,
        revision=TEXT,
        config_digest=TEXT,
        weights_digest=TEXT,
    ),
    split=splits(CUTS),
    optimizer=st.builds(
        OptimizerSpec,
        beta1=SHARE,
        beta2=SHARE,
        eps=st.floats(1e-12, 1),
        weight_decay=st.floats(0, 1),
    ),
    head=st.sampled_from([head for head in HEADS if head != "regression"]),
    num_labels=st.integers(2, 1000),
    seed=st.integers(0, 2**63 - 1),
    dropout=st.none() | SHARE,
    encoding=st.sampled_from(ENCODINGS),
    gradient_encoding=st.sampled_from(ENCODINGS),
)


@given(SPECS, PARTS)
def test_a_round_trip_over_the_wire_keeps_everything(
    spec: SessionSpec, parts: dict[str, Any]
) -> None:
    spec = replace(spec, **parts)
    message = pb.Open.FromString(spec_to_proto(spec).SerializeToString())
    assert spec_from_proto(message) == spec


PLANS = st.builds(
    Plan,
    epochs=st.integers(1, 2**32 - 1),
    max_steps=st.none() | st.integers(1, 2**32 - 1),
    batch_size=st.integers(1, 2**32 - 1),
    learning_rate=st.floats(0, 1e6),
    seed=st.integers(0, 2**63 - 1),
    group_by_length=st.booleans(),
)


@given(PLANS)
def test_a_plan_comes_over_the_wire_as_it_was(plan: Plan) -> None:
    message = pb.Run.FromString(plan_to_proto(plan).SerializeToString())
    assert plan_from_proto(message) == plan


@given(st.sampled_from(AUTOCASTS), st.booleans())
def test_what_a_script_computes_in_comes_over_the_wire_as_it_was(
    computes: str, reduced: bool
) -> None:
    autocast = Autocast(computes=computes, activation=computes if reduced else "float32")
    message = pb.Forward(autocast=autocast_to_proto(autocast))
    assert autocast_from_proto(pb.Forward.FromString(message.SerializeToString())) == autocast
    assert autocast_from_proto(pb.Step(autocast=autocast_to_proto(None))) is None


@pytest.mark.parametrize(
    ("computes", "activation", "text"),
    [
        ("FLOAT32", "FLOAT32", "autocast to float32; halves compute in one of: float16, bfloat16"),
        ("INT8", "FLOAT32", "autocast to int8"),
        ("UNSPECIFIED", "FLOAT32", "unknown encoding 0"),
        ("FLOAT16", "BFLOAT16", "an activation of bfloat16 came from autocast to float16"),
    ],
)
def test_what_nothing_computes_in_is_refused(computes: str, activation: str, text: str) -> None:
    numbers = (pb.ElementType.Value(f"ELEMENT_TYPE_{name}") for name in (computes, activation))
    message = pb.Evaluate(
        autocast=pb.Autocast(**dict(zip(("computes", "activation"), numbers, strict=True)))
    )
    with pytest.raises(ConfigError, match=text):
        autocast_from_proto(message)


def opening(**changes: object) -> pb.Open:
    spec = SessionSpec(model=ModelIdentity(name="m"), split=SplitSpec(split_layer=1), num_labels=2)
    message = spec_to_proto(spec)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"protocol_version": PROTOCOL_VERSION + 1},
            MismatchError,
            f"speaks protocol version {PROTOCOL_VERSION + 1}, the cloud {PROTOCOL_VERSION}; "
            "update the cloud",
        ),
        (
            {"protocol_version": 0},
            MismatchError,
            f"edge speaks protocol version 0, the cloud {PROTOCOL_VERSION}; update the edge",
        ),
        ({"encoding": 0}, ConfigError, "unknown encoding 0; choose one of: float32, float16"),
        ({"gradient_encoding": 77}, ConfigError, "unknown encoding 77; choose one of: float32"),
        ({"num_labels": 1}, ConfigError, "1 labels"),
        ({"head": "regression"}, ConfigError, "2 labels: a regression has 1"),
        ({"head": "multiple-choice"}, ConfigError, "unknown head 'multiple-choice'; choose one"),
        ({"head": ""}, ConfigError, "unknown head ''"),
        ({"num_labels": 2**32 - 1}, ConfigError, "4294967295 labels: a head takes 2 to 65536"),
        ({"seed": 2**63}, ConfigError, "seed 9223372036854775808 is outside"),
        ({"dropout": 1.0}, ConfigError, "dropout 1.0 is outside"),
        ({"dropout": float("nan")}, ConfigError, "dropout nan is outside"),
    ],
)
def test_bad_fields_are_refused(
    changes: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        spec_from_proto(opening(**changes))


@pytest.mark.parametrize("cut", ["identity", "slice", ""])
def test_unknown_cuts_are_not_taken_from_a_peer(cut: str) -> None:
    message = opening()
    message.split.cut = cut
    with pytest.raises(ConfigError, match=f"unknown cut '{cut}'; this cloud offers: sft, "):
        spec_from_proto(message)


@pytest.mark.parametrize(
    ("tail", "changes", "text"),
    [
        ({"split": {"cut": "half"}}, {}, "unknown cut 'half'; this cloud offers: .*none-end"),
        ({"encoding": 0}, {}, "unknown encoding 0"),
        ({"gradient_encoding": 9}, {}, "unknown encoding 9"),
        ({}, {"prompts": 1025}, "1025 prompts are outside 0..1024"),
        (None, {"prompts": 5}, "5 prompts without a tail"),
        ({}, {"split": {"cut": "none-end"}}, "unknown cut 'none-end'; this cloud offers: .*none$"),
        ({}, {"own_optimizer": {"algorithm": "SGD", "groups": [{}]}}, "takes no own optimizer"),
    ],
)
def test_a_body_that_cannot_be_is_refused(
    tail: dict[str, Any] | None, changes: dict[str, Any], text: str
) -> None:
    message = opening()
    if tail is not None:
        usual = {"split": {"cut": "none"}, "encoding": 1, "gradient_encoding": 1}
        message.tail.CopyFrom(pb.Tail(**{**usual, **tail}))
    message.MergeFrom(pb.Open(**changes))
    with pytest.raises(ConfigError, match=text):
        spec_from_proto(message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("beta1", 1.0), ("beta2", -0.1), ("weight_decay", -1.0), ("weight_decay", float("inf"))),
        *(("eps", 0.0), ("eps", float("nan")), ("eps", 1e300), ("eps", 5e-324)),
    ],
)
def test_an_impossible_optimizer_is_refused(field: str, value: float) -> None:
    message = opening()
    setattr(message.optimizer, field, value)
    with pytest.raises(ConfigError, match="optimizer"):
        spec_from_proto(message)


@pytest.mark.parametrize("name", ["a\0b", "x\n2026 ERROR forged", "\x1b[2J", "\u202e"])
def test_a_name_that_would_forge_a_line_of_the_log_is_refused(name: str) -> None:
    message = opening()
    message.model.name = name
    with pytest.raises(ConfigError, match="name or digest has control characters: '"):
        spec_from_proto(message)


def test_more_snapshots_than_an_edge_has_are_refused() -> None:
    message = pb.Resume(open=opening(), snapshots=range(MAX_SNAPSHOTS))
    assert len(return_from_proto(message).snapshots) == MAX_SNAPSHOTS
    message.snapshots.append(2**64 - 1)
    with pytest.raises(ProtocolError, match="names 100,001 snapshots, at most 100,000 fit"):
        return_from_proto(message)


def with_basis(cut: str, mean: torch.Tensor, decoder: torch.Tensor) -> pb.Open:
    message = opening()
    message.split.cut, message.split.rank = cut, 2
    message.basis.CopyFrom(basis_to_proto((mean, decoder)))
    return message


def test_a_basis_comes_along() -> None:
    mean, decoder = torch.randn(5), torch.randn(2, 5)
    found = basis_from_proto(with_basis("stream", mean, decoder))
    assert found is not None
    assert torch.equal(found[0], mean) and torch.equal(found[1], decoder)
    assert basis_from_proto(opening()) is None


def test_a_basis_that_does_not_fit_is_refused() -> None:
    mean, decoder = torch.randn(5), torch.randn(2, 5)
    for message, words in (
        (
            with_basis("stream", mean, torch.randn(3, 5)),
            r"shape \(3, 5\), expected \(2, 5",
        ),
        (
            with_basis("stream", mean[:4], decoder),
            r"shape \(2, 5\), expected \(2, 4",
        ),
        (with_basis("stream", mean / 0, decoder), "mean of the basis holds "),
    ):
        with pytest.raises(ProtocolError, match=words):
            basis_from_proto(message)
