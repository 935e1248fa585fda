"""What this cloud says of itself to whoever may call. It opens no session and knows no stream."""

from __future__ import annotations

import time

from google.protobuf.message import DecodeError

from sft_cloud.host import Host
from sft_common import PROTOCOL_VERSION, __version__
from sft_common.errors import LimitError, ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.greeting import Greeting
from sft_common.rpc.options import PROBE_BYTES

ENVELOPE_BYTES = 64
"""More than a request takes beside its payload."""


def answer_bytes_of(raw: bytes) -> int:
    """Return how many bytes the answer to a request is to carry.

    Raises:
        LimitError: more came than is taken, or more is wanted than is sent.
        ProtocolError: it is no request.
    """
    if len(raw) > PROBE_BYTES + ENVELOPE_BYTES:
        raise LimitError(f"a greeting of {len(raw):,} bytes came; it takes {PROBE_BYTES:,}")
    try:
        wanted = pb.GreetRequest.FromString(raw).answer_bytes
    except DecodeError as error:
        raise ProtocolError(f"a request of {len(raw):,} bytes cannot be read: {error}") from error
    if wanted > PROBE_BYTES:
        raise LimitError(f"an answer of {wanted:,} bytes is wanted; it has at most {PROBE_BYTES:,}")
    return wanted


def greeting_of(host: Host, device_name: str, max_message_bytes: int) -> Greeting:
    """Return what there is to say of a cloud now.

    Args:
        host: its sessions.
        device_name: where net2 runs, for people.
        max_message_bytes: largest message, or tensor in pieces, that it takes.
    """
    admission = host.residents.admission
    return Greeting(
        protocol_version=PROTOCOL_VERSION,
        software_version=__version__,
        clock_seconds=time.time(),
        device=device_name,
        max_message_bytes=max_message_bytes,
        snapshots=host.keeps_snapshots,
        free_memory_bytes=max(0, admission.memory_bytes - admission.taken_bytes),
        free_places=max(0, admission.places - admission.taken),
        draining=host.stopping,
    )
