"""Opens sessions that are a client's part of a federation."""

from __future__ import annotations

from sft_common.errors import RetryLaterError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_edge.client import GrpcSession
from sft_edge.federation.calls import Member
from sft_edge.federation.material import Material
from sft_edge.federation.said import Attempt
from sft_edge.opening import patiently
from sft_edge.retrying import Retry


def open_part(material: Material, member: Member, at: Attempt) -> GrpcSession:
    """Return the session of a try at a round, whose net2 the cloud has ready.

    Args:
        material: of the client.
        member: who it is.
        at: the try.

    Raises:
        ForbiddenError: the try is over.
        CapacityError: the cloud has had no room for as long as `--wait` says.
        SftError: the cloud is not to be reached, or refuses.
    """
    plan, options = material.plan, material.options
    spec = plan.session(
        plan.seed_of(at.round, at.number, member.client),
        max_examples=plan.training.batch_size,
        max_tokens=material.max_length,
    )
    part = pb.FederationPart(
        name=member.federation,
        client=member.client,
        incarnation=member.incarnation,
        attempt=pb.Attempt(**at._asdict()),
    )
    retry = Retry.of(options)

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
        say=lambda line: None,
        stopped=lambda: False,
    )
