"""SessionSpec <-> pb.Open, in pairs. What comes from a peer is checked by the spec's own rules.

A session may come with a basis, tensors that the spec has no place for: a pair of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from sft_common import PROTOCOL_VERSION
from sft_common.autocast import Autocast
from sft_common.config import (
    CUTS,
    TAIL_CUTS,
    OptimizerSpec,
    SessionSpec,
    SplitSpec,
    TailSpec,
)
from sft_common.errors import ConfigError, MismatchError, ProtocolError
from sft_common.own_optimizer import (
    MAX_SETTINGS,
    Group,
    GroupUpdate,
    OwnOptimizer,
    Setting,
)
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.plan import Plan
from sft_common.position import Position, Return
from sft_common.rpc.model import model_from_proto, model_to_proto
from sft_common.wire.codec import (
    check_finite,
    encoding_from_proto,
    encoding_to_proto,
    tensor_from_proto,
    tensor_to_proto,
)

MAX_SNAPSHOTS = 100_000
"""An edge keeps every snapshot that its cloud could not take too."""

CloudBasis = tuple[Tensor, Tensor]
"""mu (N,) and D (R, N): what the cloud needs to decode a stream."""


def spec_to_proto(spec: SessionSpec) -> pb.Open:
    """Return the message that opens a session."""
    message = pb.Open(
        protocol_version=PROTOCOL_VERSION,
        model=model_to_proto(spec.model),
        split=split_to_proto(spec.split),
        optimizer=pb.Optimizer(**dataclasses.asdict(spec.optimizer)),
        num_labels=spec.num_labels,
        seed=spec.seed,
        dropout=spec.dropout,
        head=spec.head,
        encoding=encoding_to_proto(spec.encoding),
        gradient_encoding=encoding_to_proto(spec.gradient_encoding),
        max_examples=spec.max_examples,
        max_tokens=spec.max_tokens,
        prompts=spec.prompts,
    )
    if spec.federation:
        message.federation.name = spec.federation
    if spec.own_optimizer is not None:
        message.own_optimizer.CopyFrom(own_optimizer_to_proto(spec.own_optimizer))
    if spec.tail is not None:
        message.tail.CopyFrom(tail_to_proto(spec.tail))
    return message


def spec_from_proto(message: pb.Open) -> SessionSpec:
    """Return the spec that a peer's message carries.

    Raises:
        MismatchError: the peer speaks another protocol version.
        ConfigError: a field is out of its range.
    """
    check_version(edge=message.protocol_version, cloud=PROTOCOL_VERSION)
    optimizer = message.optimizer
    return SessionSpec(
        model=model_from_proto(message.model),
        split=split_from_proto(message.split, CUTS),
        own_optimizer=own_optimizer_from_proto(message.own_optimizer)
        if message.HasField("own_optimizer")
        else None,
        optimizer=OptimizerSpec(
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
        ),
        num_labels=message.num_labels,
        seed=message.seed,
        dropout=message.dropout if message.HasField("dropout") else None,
        head=message.head,
        encoding=encoding_from_proto(message.encoding),
        gradient_encoding=encoding_from_proto(message.gradient_encoding),
        max_examples=message.max_examples,
        max_tokens=message.max_tokens,
        federation=message.federation.name,
        tail=tail_from_proto(message.tail) if message.HasField("tail") else None,
        prompts=message.prompts,
    )


def split_to_proto(split: SplitSpec) -> pb.Split:
    """Return the message of a cut."""
    return pb.Split(**dataclasses.asdict(split))


def split_from_proto(message: pb.Split, cuts: tuple[str, ...]) -> SplitSpec:
    """Return the cut that a peer's message says.

    Raises:
        ConfigError: it is none of `cuts`.
    """
    if message.cut not in cuts:
        raise ConfigError(f"unknown cut {message.cut!r}; this cloud offers: {', '.join(cuts)}")
    return SplitSpec(
        cut=message.cut,
        split_layer=message.split_layer,
        rank=message.rank,
        decoder_layers=message.decoder_layers,
    )


def tail_to_proto(tail: TailSpec) -> pb.Tail:
    """Return the message of where a frozen body ends."""
    return pb.Tail(
        split=split_to_proto(tail.split),
        encoding=encoding_to_proto(tail.encoding),
        gradient_encoding=encoding_to_proto(tail.gradient_encoding),
        first_row=tail.first_row,
    )


def tail_from_proto(message: pb.Tail) -> TailSpec:
    """Return where a peer's frozen body ends.

    Raises:
        ConfigError: a field is out of its range.
    """
    return TailSpec(
        split=split_from_proto(message.split, TAIL_CUTS),
        encoding=encoding_from_proto(message.encoding),
        gradient_encoding=encoding_from_proto(message.gradient_encoding),
        first_row=message.first_row,
    )


def own_optimizer_to_proto(optimizer: OwnOptimizer) -> pb.OwnOptimizer:
    """Return the message of an optimizer."""
    return pb.OwnOptimizer(
        algorithm=optimizer.algorithm,
        groups=[
            pb.ParameterGroup(
                parameters=group.parameters, settings=_settings_to_proto(group.settings)
            )
            for group in optimizer.groups
        ],
    )


def own_optimizer_from_proto(message: pb.OwnOptimizer) -> OwnOptimizer:
    """Return the optimizer that a peer's message says.

    Raises:
        ConfigError: it is none that can train net2.
    """
    return OwnOptimizer(
        algorithm=message.algorithm,
        groups=tuple(
            Group(parameters=tuple(group.parameters), settings=_settings_from_proto(group.settings))
            for group in message.groups
        ),
    )


def update_to_proto(update: GroupUpdate) -> pb.GroupUpdate:
    """Return the message of what becomes of a group."""
    return pb.GroupUpdate(
        settings=_settings_to_proto(update.settings), scale=update.scale, skipped=update.skipped
    )


def update_from_proto(message: pb.GroupUpdate) -> GroupUpdate:
    """Return what becomes of a group.

    Raises:
        ConfigError: a number is out of its range.
    """
    return GroupUpdate(
        settings=_settings_from_proto(message.settings),
        scale=message.scale,
        skipped=message.skipped,
    )


def _settings_to_proto(settings: Mapping[str, Setting]) -> list[pb.Setting]:
    return [pb.Setting(name=name, values=values) for name, values in settings.items()]


def _settings_from_proto(messages: Sequence[pb.Setting]) -> dict[str, Setting]:
    if len(messages) > MAX_SETTINGS:
        raise ConfigError(f"{len(messages)} settings of a group; at most {MAX_SETTINGS} fit")
    return {message.name: tuple(message.values) for message in messages}


def autocast_to_proto(autocast: Autocast | None) -> pb.Autocast | None:
    """Return the message of how a script computes; None: as usual."""
    if autocast is None:
        return None
    return pb.Autocast(
        computes=encoding_to_proto(autocast.computes),
        activation=encoding_to_proto(autocast.activation),
    )


def autocast_from_proto(message: pb.Step | pb.Forward | pb.Evaluate) -> Autocast | None:
    """Return how the script computes that sent a message; None: as usual.

    Raises:
        ConfigError: it is nothing that net2 could compute in.
    """
    if not message.HasField("autocast"):
        return None
    return Autocast(
        computes=encoding_from_proto(message.autocast.computes),
        activation=encoding_from_proto(message.autocast.activation),
    )


def basis_to_proto(basis: CloudBasis) -> pb.Basis:
    """Return the message of a basis."""
    mean, decoder = basis
    return pb.Basis(mean=tensor_to_proto(mean), decoder=tensor_to_proto(decoder))


def basis_from_proto(message: pb.Open) -> CloudBasis | None:
    """Return the basis that came with a session; None if none did.

    Raises:
        ProtocolError: it is of another shape than the split says, or not finite.
    """
    if not message.HasField("basis"):
        return None
    rank = message.split.rank
    hidden = next(iter(message.basis.mean.shape), 0)
    mean = tensor_from_proto(message.basis.mean, (hidden,), "mean of the basis")
    decoder = tensor_from_proto(message.basis.decoder, (rank, hidden), "decoder of the basis")
    check_finite(mean, "mean of the basis")
    check_finite(decoder, "decoder of the basis")
    return mean, decoder


def position_to_proto(position: Position) -> pb.Position:
    """Return the message of a position."""
    return pb.Position(**position._asdict())


def position_from_proto(message: pb.Position) -> Position:
    """Return the position that a message carries."""
    return Position(message.applied, message.exchanges, message.stored)


def return_to_proto(asked: Return) -> pb.Resume:
    """Return the message that takes up a session again."""
    message = pb.Resume(
        session_id=asked.session_id,
        open=spec_to_proto(asked.spec),
        incarnation=asked.incarnation,
        snapshots=asked.snapshots,
        state=asked.state,
        replaces=asked.replaces,
    )
    if asked.confirmed is not None and asked.sent is not None:
        message.confirmed.CopyFrom(position_to_proto(asked.confirmed))
        message.sent.CopyFrom(position_to_proto(asked.sent))
    return message


def return_from_proto(message: pb.Resume) -> Return:
    """Return what a peer's message says; raises like `spec_from_proto`.

    Raises:
        ProtocolError: more snapshots than any edge has.
    """
    if len(message.snapshots) > MAX_SNAPSHOTS:
        raise ProtocolError(
            f"resume names {len(message.snapshots):,} snapshots, at most {MAX_SNAPSHOTS:,} fit"
        )
    in_memory = message.HasField("confirmed") and message.HasField("sent")
    return Return(
        session_id=message.session_id,
        spec=spec_from_proto(message.open),
        incarnation=message.incarnation,
        confirmed=position_from_proto(message.confirmed) if in_memory else None,
        sent=position_from_proto(message.sent) if in_memory else None,
        snapshots=tuple(message.snapshots),
        state=message.state,
        replaces=message.replaces,
    )


def plan_to_proto(plan: Plan) -> pb.Run:
    """Return the message that starts a training over stored examples."""
    return pb.Run(
        epochs=plan.epochs,
        max_steps=plan.max_steps,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        seed=plan.seed,
        group_by_length=plan.group_by_length,
    )


def plan_from_proto(message: pb.Run) -> Plan:
    """Return the plan that a peer's message carries.

    Raises:
        ConfigError: a field is out of its range.
    """
    return Plan(
        epochs=message.epochs,
        max_steps=message.max_steps if message.HasField("max_steps") else None,
        batch_size=message.batch_size,
        learning_rate=message.learning_rate,
        seed=message.seed,
        group_by_length=message.group_by_length,
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
