"""Sessions that are a client's part of a federation: what they may be, and what they start from."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from sft_cloud.federation.registry import Federations
from sft_cloud.federation.servicer import attempt_from_proto
from sft_common.config import SessionSpec
from sft_common.errors import MismatchError
from sft_common.federation.plan import FederationPlan
from sft_common.pb.sft.v1 import split_training_pb2 as pb


def numbers_for(
    federations: Federations, message: pb.Open, spec: SessionSpec, owner: str
) -> dict[str, Tensor] | None:
    """Return the net2 that a session of a federation starts from; None: it is of none.

    Raises:
        ConfigError: there is no such federation.
        MismatchError: the session is not what the federation's plan says.
        ForbiddenError: the client has nothing to do now.
    """
    if not spec.federation:
        return None
    part = message.federation
    federation, at = federations.find(spec.federation), attempt_from_proto(part.attempt)
    seed = federation.plan.seed_of(at.round, at.number, part.client)
    _check_spec(federation.plan, spec, seed)
    return federation.net2_for(part.client, owner, part.incarnation, at)


def _check_spec(plan: FederationPlan, spec: SessionSpec, seed: int) -> None:
    wanted = plan.session(seed, max_examples=spec.max_examples, max_tokens=spec.max_tokens)
    for field in dataclasses.fields(SessionSpec):
        theirs, ours = getattr(spec, field.name), getattr(wanted, field.name)
        if theirs != ours:
            raise MismatchError(
                f"the session has {field.name} {theirs}, federation {plan.name} says {ours}; are "
                "both sides of the same version?"
            )
