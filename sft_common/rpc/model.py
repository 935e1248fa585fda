"""Which pre-trained model both sides have <-> its message."""

from __future__ import annotations

import dataclasses

from sft_common.config import ModelIdentity
from sft_common.pb.sft.v1 import split_training_pb2 as pb


def model_to_proto(model: ModelIdentity) -> pb.Model:
    """Return the message of a model."""
    return pb.Model(**dataclasses.asdict(model))


def model_from_proto(message: pb.Model) -> ModelIdentity:
    """Return the model that a peer names."""
    return ModelIdentity(
        name=message.name,
        revision=message.revision,
        config_digest=message.config_digest,
        weights_digest=message.weights_digest,
    )
