"""Reaches a cloud: a gRPC channel that is ready, or the reason why there is none."""

from __future__ import annotations

import grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.access import Access
from sft_common.rpc.channel import open_channel, with_token
from sft_common.rpc.options import MAX_MESSAGE_BYTES
from sft_common.rpc.trouble import trouble_with


def connect(access: Access, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
    """Return a channel that is ready.

    Args:
        access: how to reach the cloud and log in to it.
        max_message_bytes: largest message to take or send.

    Raises:
        UnreachableError: nobody answers there, or not so that both trust each other.
        ConfigError: a file of the access is not there any more, or broken.
    """
    channel = open_channel(access, max_message_bytes)
    try:
        grpc.channel_ready_future(channel).result(timeout=access.connect_seconds)
    except grpc.FutureTimeoutError:
        channel.close()
        trouble = trouble_with(access)
        raise UnreachableError(
            f"no cloud answers at {access.server}: tried for {access.connect_seconds:g} s "
            f"({trouble.why}); {trouble.advice}"
        ) from None
    except BaseException:
        channel.close()
        raise
    return with_token(channel, access.token)
