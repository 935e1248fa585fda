"""Opens sessions that are a client's part of a federation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sft_common.config import SessionSpec
from sft_common.errors import RetryLaterError
from sft_common.federation.said import Attempt
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.federation import attempt_to_proto
from sft_edge.client import GrpcSession
from sft_edge.federation.calls import Member
from sft_edge.federation.material import Material
from sft_edge.opening import patiently
from sft_edge.retrying import Retry


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Who started a client."""

    say: Callable[[str], None] = lambda line: None
    """Tells them a line."""

    stopped: Callable[[], bool] = lambda: False
    """Whether they want it to stop."""


NOBODY = Person()
"""Hears nothing, and stops nothing."""


def open_part(
    material: Material, member: Member, at: Attempt, person: Person = NOBODY
) -> GrpcSession:
    """Return the session of a try at a round, whose net2 the cloud has ready.

    Args:
        material: of the client.
        member: who it is.
        at: the try.
        person: is told of a cloud that is lost, and may want to stop.

    Raises:
        ForbiddenError: the try is over.
        CapacityError: the cloud has had no room for as long as `--wait` says.
        SftError: the cloud is not to be reached, or refuses.
    """
    plan = material.plan
    spec = plan.session(
        plan.seed_of(at.round, at.number, member.client),
        max_examples=plan.training.batch_size,
        max_tokens=material.max_length,
    )
    return _opened(material, member, spec, attempt_to_proto(at), person)


def open_body(
    material: Material, member: Member, *, calibrates: bool, person: Person = NOBODY
) -> GrpcSession:
    """Return a session with the frozen body of the federation's model.

    Args:
        material: of the client.
        member: who it is; it must take part now.
        calibrates: whether the second cut is to code nothing.
        person: as of `open_part`.

    Raises:
        ForbiddenError: the client does not take part.
        SftError: as of `open_part`.
    """
    plan = material.plan
    spec = plan.session(
        plan.seed,
        max_examples=plan.training.batch_size,
        max_tokens=material.max_length + plan.training.prompts,
        calibrates=calibrates,
    )
    return _opened(material, member, spec, None, person)


def _opened(
    material: Material,
    member: Member,
    spec: SessionSpec,
    at: pb.Attempt | None,
    person: Person,
) -> GrpcSession:
    options, retry = material.options, Retry.of(material.options)
    part = pb.FederationPart(
        name=member.federation, client=member.client, incarnation=member.incarnation, attempt=at
    )

    def attempt() -> GrpcSession:
        return GrpcSession(
            material.access,
            spec,
            material.shape,
            max_message_bytes=options.max_message * 2**20,
            retry=retry,
            part=part,
        )

    return patiently(
        attempt,
        RetryLaterError,
        wait=options.wait,
        retry=retry,
        say=person.say,
        stopped=person.stopped,
    )
