"""A poor link on loopback: a relay with delay and rate that counts what it carries.

It runs in a process of its own, so that it waits for no benchmark's computing. Each direction is a
link by itself: bytes leave it at `mbit` per second, each piece `delay` after it was sent whole.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PIECE = 16_384
"""Bytes that are carried together; also a frame of HTTP/2."""

QUEUED = 0.05
"""Seconds of traffic that a sender may be ahead of the link, as a router's buffer."""

SOCKET_BYTES = 65_536
"""Of the relay's receiving buffers, which are no part of the link; the kernel doubles them."""


class Link(NamedTuple):
    """What a link is like."""

    name: str

    round_trip_ms: float
    """Both delays together."""

    mbit: float
    """Rate of each direction, in 10^6 bits per second; 0 for no limit."""


LOOPBACK = Link("loopback", 0, 0)

LINKS = (
    LOOPBACK,
    Link("1 Gbit/s, 1 ms", 1, 1000),
    Link("100 Mbit/s, 40 ms", 40, 100),
    Link("10 Mbit/s, 40 ms", 40, 10),
    Link("5 Mbit/s, 100 ms", 100, 5),
)
"""The links of the benchmarks, from good to poor."""


@dataclass
class Direction:
    """One direction of one link."""

    delay: float
    """Seconds on the way."""

    rate: float
    """Bytes per second; 0 for no limit."""

    carried: int = 0
    """Bytes so far."""

    free: float = 0.0
    """When the last byte leaves the sender's side."""

    def due(self, size: int) -> float:
        """Count a piece; returns when it arrives."""
        self.carried += size
        self.free = max(self.free, time.monotonic())
        if self.rate:
            self.free += size / self.rate
        return self.free + self.delay

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carry one connection until its end."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(_deliver(waiting, sink))
        with contextlib.suppress(ConnectionError):
            while data := await source.read(PIECE):
                waiting.put_nowait((self.due(len(data)), data))
                await _sleep_until(self.free - QUEUED)
        waiting.put_nowait((self.free + self.delay, b""))
        await delivery


async def _deliver(waiting: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
    """Hand over pieces when they are due; an empty one ends this direction alone."""
    with contextlib.suppress(ConnectionError, OSError):
        while True:
            due, data = await waiting.get()
            await _sleep_until(due)
            if not data:
                return sink.write_eof()
            sink.write(data)
            await sink.drain()


async def _sleep_until(moment: float) -> None:
    if (seconds := moment - time.monotonic()) > 0:
        await asyncio.sleep(seconds)


async def relay(link: Link, target: int, port_file: Path, counts: Path) -> None:
    """Carry connections to a port of loopback until SIGTERM, then write what was carried."""
    delay, rate = link.round_trip_ms / 2e3, link.mbit * 1e6 / 8
    up, down = Direction(delay, rate), Direction(delay, rate)

    connections: set[asyncio.Task[None]] = set()

    async def connected(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        task.add_done_callback(connections.discard)
        try:
            far, there = await asyncio.open_connection(sock=_connected(target), limit=PIECE)
            try:
                await asyncio.gather(up.carry(near, there), down.carry(far, back))
            finally:
                there.close()
        except (OSError, asyncio.CancelledError):
            pass  # nobody there, or the end of the link
        finally:
            back.close()

    listener = _small(socket.socket())
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(connected, sock=listener, limit=PIECE)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    port_file.write_text(str(listener.getsockname()[1]))
    await stop.wait()
    server.close()
    for connection in list(connections):
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)
    counts.write_text(json.dumps({"up": up.carried, "down": down.carried}))


def _connected(port: int) -> socket.socket:
    there = _small(socket.socket())
    there.connect(("127.0.0.1", port))
    there.setblocking(False)
    return there


def _small(made: socket.socket) -> socket.socket:
    """Take little from who sends before it is read; what is on its way out may be much."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    return made


@dataclass
class Carried:
    """Where a link begins, and once it has ended, what it carried."""

    port: int
    up: int = 0
    down: int = 0


@contextmanager
def linked(link: Link, target: int) -> Iterator[Carried]:
    """Run a link to a port of loopback until the block ends; counts are there then."""
    with tempfile.TemporaryDirectory(prefix="sft-link-") as place:
        port, counts = Path(place) / "port", Path(place) / "counts"
        arguments = [*map(str, (link.round_trip_ms, link.mbit, target)), str(port), str(counts)]
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.link", *arguments])
        try:
            while not (port.is_file() and port.read_text()):
                if process.poll() is not None:
                    raise RuntimeError("the link did not start")
                time.sleep(0.01)
            carried = Carried(int(port.read_text()))
            yield carried
        finally:
            process.terminate()
            process.wait()
        found = json.loads(counts.read_text())
        carried.up, carried.down = found["up"], found["down"]


def main() -> None:
    """Run one link; started by `linked`."""
    parser = argparse.ArgumentParser()
    for name, kind in (("round_trip_ms", float), ("mbit", float), ("target", int)):
        parser.add_argument(name, type=kind)
    parser.add_argument("port_file", type=Path)
    parser.add_argument("counts", type=Path)
    options = parser.parse_args()
    link = Link("", options.round_trip_ms, options.mbit)
    asyncio.run(relay(link, options.target, options.port_file, options.counts))


if __name__ == "__main__":
    main()
