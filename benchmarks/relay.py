"""A TCP relay on loopback that counts the bytes it carries each way; its connections can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PIECE = 65536
"""Bytes that are carried at once."""


@dataclass
class Relay:
    """Where it listens and what it has carried so far, in bytes."""

    port: int
    up: int = 0
    down: int = 0
    events: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    """What is to happen when `up` has come so far, ascending; nothing goes up before it has."""

    carriers: list[threading.Thread] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def server(self) -> str:
        """Where it listens, for the command line."""
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections as a lost link does; new ones are carried."""
        while self.sockets:
            with contextlib.suppress(OSError):
                self.sockets.pop().shutdown(socket.SHUT_RDWR)


@contextmanager
def counting_relay(target: Callable[[], int]) -> Iterator[Relay]:
    """Carry connections to a port of loopback until the block ends.

    Args:
        target: tells the port, which may change.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    relay = Relay(port=listener.getsockname()[1])
    accepting = threading.Thread(target=_accept, args=(listener, target, relay), daemon=True)
    accepting.start()
    try:
        yield relay
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for carrier in relay.carriers:
            carrier.join(timeout=10)


def _accept(listener: socket.socket, target: Callable[[], int], relay: Relay) -> None:
    while True:
        try:
            edge, _ = listener.accept()
        except OSError:
            return
        try:
            cloud = socket.create_connection(("127.0.0.1", target()))
        except OSError:  # nobody listens now
            edge.close()
            continue
        relay.sockets += [edge, cloud]
        carrier = threading.Thread(target=_carry, args=(relay, edge, cloud), daemon=True)
        relay.carriers.append(carrier)
        carrier.start()


def _carry(relay: Relay, edge: socket.socket, cloud: socket.socket) -> None:
    """Carry one connection; both ends are closed when both directions have ended.

    Not sooner: what one thread closes while another reads it stays open.
    """
    with edge, cloud:
        up = threading.Thread(target=_pump, args=(relay, "up", edge, cloud), daemon=True)
        up.start()
        _pump(relay, "down", cloud, edge)
        up.join()


def _pump(relay: Relay, direction: str, source: socket.socket, sink: socket.socket) -> None:
    """Carry one direction; each direction's counter is written by one thread per connection."""
    try:
        while data := source.recv(_room(relay, direction)):
            sink.sendall(data)
            setattr(relay, direction, getattr(relay, direction) + len(data))
            while direction == "up" and relay.events and relay.up >= relay.events[0][0]:
                relay.events.pop(0)[1]()
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _room(relay: Relay, direction: str) -> int:
    """Return how many bytes may be carried at once, so that no event comes late."""
    until = relay.events[0][0] - relay.up if direction == "up" and relay.events else PIECE
    return max(1, min(until, PIECE))
