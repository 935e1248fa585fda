"""Reaches a cloud: a gRPC channel that is ready, or the reason why there is none."""

from __future__ import annotations

import socket

import grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.options import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, sized


def connect(
    server: str, seconds: float, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> grpc.Channel:
    """Return a channel that is ready.

    Args:
        server: "host:port" of the cloud.
        seconds: how long to try.
        max_message_bytes: largest message to take or send.

    Raises:
        UnreachableError: nobody answers there.
    """
    channel = grpc.insecure_channel(server, options=sized(CHANNEL_OPTIONS, max_message_bytes))
    try:
        grpc.channel_ready_future(channel).result(timeout=seconds)
    except grpc.FutureTimeoutError:
        channel.close()
        raise UnreachableError(
            f"no cloud answers at {server}: tried for {seconds:g} s ({_why(server)}); "
            "is `sft-cloud serve` running there?"
        ) from None
    except BaseException:
        channel.close()
        raise
    return channel


def _why(server: str) -> str:
    """Say why a server is not reached, in the words of the operating system."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError as error:
        return error.strerror or str(error)
    return "something listens there, but it does not speak gRPC"
