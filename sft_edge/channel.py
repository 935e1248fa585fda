"""Reaches a cloud: a gRPC channel that is ready, or the reason why there is none."""

from __future__ import annotations

import time

import grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.access import Access
from sft_common.rpc.channel import open_channel, with_token
from sft_common.rpc.options import MAX_MESSAGE_BYTES
from sft_common.rpc.trouble import Trouble, trouble_with

SLICE_SECONDS = 0.5
"""After so long a channel that is not ready is asked to connect again."""


def connect(access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
    """Return a channel that is ready.

    Args:
        access: how to reach the cloud and log in to it.
        max_message_bytes: largest message to take or send.

    Raises:
        UnreachableError: nobody answers there, or not so that both trust each other.
        ConfigError: a file of the access is not there any more, or broken.
    """
    found = try_to_connect(access, max_message_bytes)
    if isinstance(found, Trouble):
        raise UnreachableError(
            f"no cloud answers at {access.server}: tried for {access.connect_seconds:g} s "
            f"({found.why}); {found.advice}"
        )
    return found


def try_to_connect(
    access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> grpc.Channel | Trouble:
    """Return a channel that is ready, or why there is none; arguments as of `connect`.

    Raises:
        ConfigError: a file of the access is not there any more, or broken.
    """
    channel = open_channel(access, max_message_bytes)
    try:
        ready = _ready(channel, access.connect_seconds)
    except BaseException:
        channel.close()
        raise
    if ready:
        return with_token(channel, access.token)
    channel.close()
    return trouble_with(access)


def _ready(channel: grpc.Channel, seconds: float) -> bool:
    """Wait until a channel is ready; returns whether it came to that.

    In slices: gRPC tries to connect once for each that waits, and once a connection has come and
    broken before that was seen, nobody tries again.
    """
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ready = grpc.channel_ready_future(channel)
        try:
            ready.result(timeout=min(left, SLICE_SECONDS))
            return True
        except grpc.FutureTimeoutError:
            ready.cancel()
    return False
