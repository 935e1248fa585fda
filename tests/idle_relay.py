"""A TCP relay on loopback that forgets connections which are idle, as load balancers do.

It knows no HTTP/2. As with the real ones nobody is told: both sides believe in the connection until
they send something, which is swallowed, or answered by a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PIECE = 65_536


@dataclass
class Connection:
    """One that was made through the relay."""

    bytes: int = 0
    """Carried so far, both ways."""

    seen: float = field(default_factory=time.monotonic)
    """When the last of them came, by `time.monotonic`."""

    longest_silence: float = 0.0
    """Seconds between two of them."""

    forgotten: bool = False
    """Whether something came when it had been idle for too long."""

    def passes(self, size: int, limit: float) -> bool:
        """Note bytes that came; returns whether they are carried on."""
        silence = time.monotonic() - self.seen
        self.forgotten |= silence > limit
        if not self.forgotten:
            self.longest_silence = max(self.longest_silence, silence)
            self.seen += silence
            self.bytes += size
        return not self.forgotten


@dataclass
class IdleRelay:
    """Where it listens, and what was made through it."""

    target: int
    limit_seconds: float
    resets: bool
    port: int = 0
    connections: list[Connection] = field(default_factory=list)

    @property
    def server(self) -> str:
        """Where it listens, for the command line."""
        return f"127.0.0.1:{self.port}"

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Carry connections until it is to stop."""
        self.port = listener.getsockname()[1]
        tasks: set[asyncio.Task[None]] = set()

        def connected(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connect(near, back))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, sock=listener)
        await stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.connections.append(connection := Connection())
        with contextlib.closing(back), contextlib.suppress(OSError):
            far, there = await asyncio.open_connection("127.0.0.1", self.target)
            with contextlib.closing(there):
                await asyncio.gather(
                    self._carry(connection, near, there, back),
                    self._carry(connection, far, back, there),
                )

    async def _carry(
        self,
        connection: Connection,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        sender: asyncio.StreamWriter,
    ) -> None:
        """Carry one direction; `sender` is the way back to where its bytes come from."""
        with contextlib.suppress(OSError):
            while data := await source.read(PIECE):
                if connection.passes(len(data), self.limit_seconds):
                    sink.write(data)
                    await sink.drain()
                elif self.resets:
                    return _reset(sender)
            if connection.passes(0, self.limit_seconds):
                sink.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection so that the other end reads an error."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@contextmanager
def idle_relay(target: int, limit_seconds: float, *, resets: bool = False) -> Iterator[IdleRelay]:
    """Carry connections to a port of loopback until the block ends.

    Args:
        target: the port.
        limit_seconds: a connection on which nothing went either way for longer is forgotten.
        resets: whether what comes afterwards is answered by a reset, not swallowed.
    """
    relay = IdleRelay(target, limit_seconds, resets)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    running = threading.Thread(
        target=loop.run_until_complete, args=[relay.run(listener, stop)], daemon=True
    )
    relay.port = listener.getsockname()[1]
    running.start()
    try:
        yield relay
    finally:
        loop.call_soon_threadsafe(stop.set)
        running.join(timeout=10)
        loop.close()
