"""SessionSpec <-> pb.Open, in pairs. What comes from a peer is checked by the spec's own rules."""

from __future__ import annotations

from sft_common import PROTOCOL_VERSION
from sft_common.config import CUTS, ModelIdentity, OptimizerSpec, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, MismatchError
from sft_common.pb.sft.v1 import split_training_pb2 as pb


def spec_to_proto(spec: SessionSpec) -> pb.Open:
    """Return the message that opens a session."""
    return pb.Open(
        protocol_version=PROTOCOL_VERSION,
        model=pb.Model(
            name=spec.model.name,
            revision=spec.model.revision,
            config_digest=spec.model.config_digest,
            weights_digest=spec.model.weights_digest,
        ),
        split=pb.Split(
            cut=spec.split.cut, split_layer=spec.split.split_layer, rank=spec.split.rank
        ),
        optimizer=pb.Optimizer(
            beta1=spec.optimizer.beta1,
            beta2=spec.optimizer.beta2,
            eps=spec.optimizer.eps,
            weight_decay=spec.optimizer.weight_decay,
        ),
        num_labels=spec.num_labels,
        seed=spec.seed,
        dropout=spec.dropout,
    )


def spec_from_proto(message: pb.Open) -> SessionSpec:
    """Return the spec that a peer's message carries.

    Raises:
        MismatchError: the peer speaks another protocol version.
        ConfigError: a field is out of its range.
    """
    check_version(edge=message.protocol_version, cloud=PROTOCOL_VERSION)
    if message.split.cut not in CUTS:
        raise ConfigError(
            f"unknown cut {message.split.cut!r}; this cloud offers: {', '.join(CUTS)}"
        )
    model, split, optimizer = message.model, message.split, message.optimizer
    return SessionSpec(
        model=ModelIdentity(
            name=model.name,
            revision=model.revision,
            config_digest=model.config_digest,
            weights_digest=model.weights_digest,
        ),
        split=SplitSpec(cut=split.cut, split_layer=split.split_layer, rank=split.rank),
        optimizer=OptimizerSpec(
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
        ),
        num_labels=message.num_labels,
        seed=message.seed,
        dropout=message.dropout if message.HasField("dropout") else None,
    )


def check_version(*, edge: int, cloud: int) -> None:
    """Refuse a peer of another protocol version.

    Raises:
        MismatchError: shows both versions.
    """
    if edge != cloud:
        older = "edge" if edge < cloud else "cloud"
        raise MismatchError(
            f"the edge speaks protocol version {edge}, the cloud {cloud}; update the {older}"
        )
