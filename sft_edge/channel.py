"""Reaches a cloud: a gRPC channel that is ready, or the reason why there is none."""

from __future__ import annotations

import socket

import grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.options import CHANNEL_OPTIONS


def connect(server: str, seconds: float) -> grpc.Channel:
    """Return a channel that is ready.

    Args:
        server: "host:port" of the cloud.
        seconds: how long to try.

    Raises:
        UnreachableError: nobody answers there.
    """
    channel = grpc.insecure_channel(server, options=CHANNEL_OPTIONS)
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
