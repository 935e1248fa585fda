"""SessionSpec <-> pb.Open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_common import PROTOCOL_VERSION
from sft_common.config import ModelIdentity, OptimizerSpec, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, MismatchError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.spec import spec_from_proto, spec_to_proto

SHARE = st.floats(0, 0.999)
SPECS = st.builds(
    SessionSpec,
    model=st.builds(
        ModelIdentity,
        name=st.text(),
        revision=st.text(),
        config_digest=st.text(),
        weights_digest=st.text(),
    ),
    split=st.builds(
        SplitSpec,
        cut=st.sampled_from(["sft", "none"]),
        split_layer=st.integers(0, 2**32 - 1),
        rank=st.integers(0, 2**32 - 1),
    ),
    optimizer=st.builds(
        OptimizerSpec,
        beta1=SHARE,
        beta2=SHARE,
        eps=st.floats(1e-12, 1),
        weight_decay=st.floats(0, 1),
    ),
    num_labels=st.integers(2, 1000),
    seed=st.integers(0, 2**63 - 1),
    dropout=st.none() | SHARE,
)


@given(SPECS)
def test_a_round_trip_over_the_wire_keeps_everything(spec: SessionSpec) -> None:
    message = pb.Open.FromString(spec_to_proto(spec).SerializeToString())
    assert spec_from_proto(message) == spec


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
            "edge speaks protocol version 2, the cloud 1; update the cloud",
        ),
        (
            {"protocol_version": 0},
            MismatchError,
            "edge speaks protocol version 0, the cloud 1; update the edge",
        ),
        ({"num_labels": 1}, ConfigError, "1 labels"),
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
def test_only_public_cuts_are_taken_from_a_peer(cut: str) -> None:
    message = opening()
    message.split.cut = cut
    with pytest.raises(ConfigError, match=f"unknown cut '{cut}'; this cloud offers: sft, none"):
        spec_from_proto(message)


@pytest.mark.parametrize(
    ("field", "value"),
    [("beta1", 1.0), ("beta2", -0.1), ("eps", 0.0), ("weight_decay", -1.0), ("eps", float("nan"))],
)
def test_an_impossible_optimizer_is_refused(field: str, value: float) -> None:
    message = opening()
    setattr(message.optimizer, field, value)
    with pytest.raises(ConfigError, match="optimizer"):
        spec_from_proto(message)
