"""What a federation speaks of <-> its messages, in pairs.

What a peer says of a plan is checked by the plan's own rules.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

from sft_common.config import TAIL_CUTS
from sft_common.federation.plan import (
    FederationPlan,
    LocalTraining,
    Participation,
    Transfer,
    UpdatePrivacy,
)
from sft_common.federation.said import Attempt
from sft_common.pb.sft.v1 import federation_pb2 as fb
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.model import model_from_proto, model_to_proto
from sft_common.rpc.spec import split_from_proto, split_to_proto
from sft_common.wire.codec import encoding_from_proto, encoding_to_proto

DUTY_TO_PROTO = {
    "train": fb.DUTY_TRAIN,
    "calibrate-cut": fb.DUTY_CALIBRATE_CUT,
    "calibrate-tail": fb.DUTY_CALIBRATE_TAIL,
    "evaluate": fb.DUTY_EVALUATE,
}

DUTY_FROM_PROTO = {number: duty for duty, number in DUTY_TO_PROTO.items()}


def attempt_from_proto(message: pb.Attempt) -> Attempt:
    """Return the try that a message names."""
    return Attempt(message.round, message.number, message.life)


def attempt_to_proto(attempt: Attempt) -> pb.Attempt:
    """Return the message of a try."""
    return pb.Attempt(**attempt._asdict())


def federation_to_proto(plan: FederationPlan) -> fb.FederationPlan:
    """Return the message of a plan."""
    return fb.FederationPlan(
        name=plan.name,
        method=plan.method,
        model=model_to_proto(plan.model),
        kind=plan.kind,
        labels=plan.labels,
        rounds=plan.rounds,
        seed=plan.seed,
        clients=fb.FederationClients(**dataclasses.asdict(plan.clients)),
        training=fb.LocalTraining(**dataclasses.asdict(plan.training)),
        cut=transfer_to_proto(plan.cut),
        tail=transfer_to_proto(plan.tail),
        first_row=plan.first_row,
        privacy=fb.UpdatePrivacy(**dataclasses.asdict(plan.privacy)) if plan.privacy else None,
    )


def plan_digest(plan: FederationPlan) -> str:
    """Return what two plans have in common that ask the same of a client: SHA-256, hexadecimal.

    Who is drawn and how long anybody is waited for is the cloud's affair.
    """
    asked = dataclasses.replace(plan, clients=Participation())
    as_told = federation_from_proto(federation_to_proto(asked))  # a rate of 1 has become 1.0
    text = json.dumps(dataclasses.asdict(as_told), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def federation_from_proto(message: fb.FederationPlan) -> FederationPlan:
    """Return the plan that a peer's message carries.

    Raises:
        ConfigError: a field is out of its range.
    """
    clients, training, privacy = message.clients, message.training, message.privacy
    return FederationPlan(
        name=message.name,
        method=message.method,
        model=model_from_proto(message.model),
        kind=message.kind,
        labels=tuple(message.labels),
        rounds=message.rounds,
        seed=message.seed,
        clients=Participation(
            per_round=clients.per_round,
            minimum=clients.minimum,
            quorum=clients.quorum,
            round_seconds=clients.round_seconds,
            patience_seconds=clients.patience_seconds,
        ),
        training=LocalTraining(
            epochs=training.epochs,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            dropout=training.dropout if training.HasField("dropout") else None,
            max_length=training.max_length,
            keep=training.keep,
            prompts=training.prompts,
            evaluate_every=training.evaluate_every,
        ),
        cut=transfer_from_proto(message.cut) if message.HasField("cut") else None,
        tail=transfer_from_proto(message.tail) if message.HasField("tail") else None,
        first_row=message.first_row,
        privacy=UpdatePrivacy(clip=privacy.clip, noise=privacy.noise, delta=privacy.delta)
        if message.HasField("privacy")
        else None,
    )


def transfer_to_proto(transfer: Transfer | None) -> fb.Transfer | None:
    """Return the message of a transfer; None: there is none."""
    if transfer is None:
        return None
    return fb.Transfer(
        split=split_to_proto(transfer.split),
        encoding=encoding_to_proto(transfer.encoding),
        gradient_encoding=encoding_to_proto(transfer.gradient_encoding),
    )


def transfer_from_proto(message: fb.Transfer) -> Transfer:
    """Return the transfer that a peer's message carries.

    Raises:
        ConfigError: a field is out of its range.
    """
    return Transfer(
        split=split_from_proto(message.split, TAIL_CUTS),
        encoding=encoding_from_proto(message.encoding),
        gradient_encoding=encoding_from_proto(message.gradient_encoding),
    )
