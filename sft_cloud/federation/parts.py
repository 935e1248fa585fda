"""Sessions that are a client's part of a federation: what they may be, and what they start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from sft_cloud.federation.registry import Federations
from sft_common.config import BASIS_CUTS, SessionSpec
from sft_common.errors import ForbiddenError, MismatchError
from sft_common.federation.plan import FederationPlan, uncoded
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.federation import attempt_from_proto


class Numbers(NamedTuple):
    """What a session of a federation starts from."""

    trained: Mapping[str, Tensor] | None = None
    """net2, where the session trains it."""

    code: Mapping[str, Tensor] = {}
    """The cloud's share of the cuts, where the body is frozen."""


def numbers_for(
    federations: Federations, message: pb.Open, spec: SessionSpec, owner: str
) -> Numbers:
    """Return what a session starts from; nothing if it is of no federation.

    Raises:
        ConfigError: there is no such federation.
        MismatchError: the session is not what the federation's plan says.
        ForbiddenError: the client has nothing to do now, or brings numbers of its own.
    """
    if not spec.federation:
        return Numbers()
    if message.trained_session or message.known or message.HasField("basis"):
        raise ForbiddenError(
            f"a session of federation {spec.federation} starts from its numbers alone; "
            "leave the client's own out"
        )
    part, federation = message.federation, federations.find(spec.federation)
    who, plan = (part.client, owner, part.incarnation), federation.plan
    if plan.tail is None:
        at = attempt_from_proto(part.attempt)
        _check_spec(plan, spec, plan.seed_of(at.round, at.number, part.client))
        return Numbers(trained=federation.net2_for(*who, at))
    _check_spec(plan, spec, plan.seed, calibrates=_calibrates(plan, spec))
    return Numbers(code=federation.code_for(*who))


def _calibrates(plan: FederationPlan, spec: SessionSpec) -> bool:
    """Return whether a session is to find out what comes to the second cut: it codes nothing.

    It may be asked for at any time: the round that it is for may end while it is being opened.
    """
    assert plan.tail is not None
    coded = plan.tail.split
    codes = coded.cut in BASIS_CUTS
    return codes and spec.tail is not None and spec.tail.split == uncoded(coded)


def _check_spec(
    plan: FederationPlan, spec: SessionSpec, seed: int, *, calibrates: bool = False
) -> None:
    wanted = plan.session(
        seed,
        max_examples=spec.max_examples,
        max_tokens=spec.max_tokens,
        calibrates=calibrates,
    )
    for field in dataclasses.fields(SessionSpec):
        theirs, ours = getattr(spec, field.name), getattr(wanted, field.name)
        if theirs != ours:
            raise MismatchError(
                f"the session has {field.name} {theirs}, federation {plan.name} says {ours}; are "
                "both sides of the same version?"
            )
