"""Reaches a cloud: a gRPC channel that is ready, or the reason why there is none."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import ExitStack

import grpc

from sft_common.errors import UnreachableError
from sft_common.rpc.access import Access
from sft_common.rpc.channel import open_channel, with_token
from sft_common.rpc.options import MAX_MESSAGE_BYTES
from sft_common.rpc.trouble import trouble_with

State = Callable[[grpc.ChannelConnectivity], None]
"""Hears of the state of a channel."""


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
        ready = _ready(channel, access.connect_seconds)
    except BaseException:
        channel.close()
        raise
    if not ready:
        channel.close()
        trouble = trouble_with(access)
        raise UnreachableError(
            f"no cloud answers at {access.server}: tried for {access.connect_seconds:g} s "
            f"({trouble.why}); {trouble.advice}"
        )
    return with_token(channel, access.token)


def _ready(channel: grpc.Channel, seconds: float) -> bool:
    """Wait until a channel is ready; returns whether it came to that.

    Not grpc.channel_ready_future: once a connection has come and broken before that looked, it
    waits for one that nobody makes.
    """
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    end = time.monotonic() + seconds
    with ExitStack() as listening:
        _listen(channel, states.put, listening)
        while (left := end - time.monotonic()) > 0:
            try:
                state = states.get(timeout=left)
            except queue.Empty:
                break
            if state is grpc.ChannelConnectivity.READY:
                return True
            if state is grpc.ChannelConnectivity.IDLE:
                _listen(channel, _unheard, listening)
    return False


def _listen(channel: grpc.Channel, callback: State, listening: ExitStack) -> None:
    """Have a channel connect, and tell how that goes: it tries once for each that listens."""
    channel.subscribe(callback, try_to_connect=True)
    listening.callback(channel.unsubscribe, callback)


def _unheard(state: grpc.ChannelConnectivity) -> None:
    """Take what another callback is told too."""
