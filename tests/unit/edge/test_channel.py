"""Whoever connects gets a channel that is ready, or hears in time that there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import grpc

from sft_edge import channel as tested

READY, IDLE = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE
CONNECTING = grpc.ChannelConnectivity.CONNECTING


class Breaking:
    """A channel whose first connections break at once: it tries once for each that subscribes."""

    def __init__(self, breaks: int) -> None:
        self.breaks, self.listeners = breaks, list[Callable[[Any], None]]()

    def subscribe(self, callback: Callable[[Any], None], try_to_connect: bool) -> None:
        assert try_to_connect
        self.listeners.append(callback)
        threading.Thread(target=self._connect).start()

    def unsubscribe(self, callback: Callable[[Any], None]) -> None:
        self.listeners.remove(callback)

    def _connect(self) -> None:
        self.breaks -= 1
        last = READY if self.breaks < 0 else IDLE
        for state in (CONNECTING, last):
            for listener in list(self.listeners):
                listener(state)


def test_a_connection_that_breaks_before_it_was_seen_is_made_again() -> None:
    """GRPC's own future would wait for the rest of the time."""
    channel = Breaking(3)
    assert tested._ready(cast(Any, channel), 60)
    assert not channel.listeners


def test_none_that_never_comes_is_waited_for() -> None:
    channel = Breaking(10**9)
    assert not tested._ready(cast(Any, channel), 0.05)
    assert not channel.listeners
