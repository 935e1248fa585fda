"""A TCP relay on loopback that counts the bytes it carries each way; its connections can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Where it listens and what it has carried so far, in bytes."""

    port: int
    up: int = 0
    down: int = 0
    pumps: list[threading.Thread] = field(default_factory=list)
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
        for pump in relay.pumps:
            pump.join(timeout=10)


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
        for direction, source, sink in (("up", edge, cloud), ("down", cloud, edge)):
            pump = threading.Thread(
                target=_pump, args=(relay, direction, source, sink), daemon=True
            )
            relay.pumps.append(pump)
            pump.start()


def _pump(relay: Relay, direction: str, source: socket.socket, sink: socket.socket) -> None:
    """Carry one direction; each direction's counter is written by one thread per connection."""
    with source, sink:
        while True:
            try:
                data = source.recv(65536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return
            setattr(relay, direction, getattr(relay, direction) + len(data))
