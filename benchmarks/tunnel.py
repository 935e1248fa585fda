"""A poor link between two network namespaces: packets, not connections. Linux, root.

Every program can be put at either end, whatever it speaks and on however many ports; the kernels'
own TCP works over it. What the link is like can change while connections stay. `link.py` needs no
root, but carries connections to one port.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmarks.driven import Driven
from benchmarks.link import Link
from sft_common.errors import SftError

EDGE_IP, CLOUD_IP = "10.77.0.1", "10.77.0.2"

QUEUE_BYTES = 2 * 2**20
"""What waits for the link at most; more is dropped, and TCP slows down."""

LARGE_PACKET = 60_000

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class Tunnel:
    """An open tunnel.

    Args:
        name: of the namespaces, before "-edge" and "-cloud".
        process: carries the packets.
    """

    def __init__(self, name: str, process: Driven) -> None:
        self._name, self._process = name, process

    def at(self, end: str, command: list[str]) -> list[str]:
        """Return a command as it runs at one end, "edge" or "cloud"."""
        return ["ip", "netns", "exec", f"{self._name}-{end}", *command]

    def device(self, end: str) -> str:
        """Return the name of the network device at one end."""
        return f"{self._name}-{end[0]}"

    def become(self, link: Link) -> None:
        """Make it like a link; what is on its way keeps its time.

        Raises:
            SftError: it has died.
        """
        for end in ("edge", "cloud"):
            namespace, mtu = f"{self._name}-{end}", str(mtu_of(link))
            _run("ip", "-n", namespace, "link", "set", self.device(end), "mtu", mtu)
        self._process.ask(f"{link.round_trip_ms / 2e3} {link.mbit * 1e6 / 8}")


def mtu_of(link: Link) -> int:
    """Return the largest packet: of Ethernet, but on fast links what this process keeps up with."""
    return 1500 if 0 < link.mbit <= 100 else LARGE_PACKET


@contextmanager
def tunnel(folder: Path, core: int) -> Iterator[Tunnel]:
    """Open a tunnel as fast as it can be; it and its namespaces end with the block.

    Args:
        folder: gets its log.
        core: where it runs.

    Raises:
        SftError: this system, or this user, cannot make one.
    """
    name = f"sft{os.getpid() % 100_000}"
    if os.geteuid() or not os.path.exists("/dev/net/tun"):
        raise SftError("a link between network namespaces needs root and /dev/net/tun")
    namespaces = [f"{name}-{end}" for end in ("edge", "cloud")]
    try:
        for namespace in namespaces:
            _run("ip", "netns", "add", namespace)
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
        command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.tunnel", name]
        with Driven(command, folder / "tunnel.log") as process:
            yield Tunnel(name, process)
    finally:
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SftError(f"{' '.join(command)}: {done.stderr.strip()}")


def _device(name: str, namespace: str, address: str) -> int:
    """Make one end; returns what its packets are read from and written to."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    _run("ip", "link", "set", name, "netns", namespace)
    _run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", name)
    # Connections find their largest packet when they open; they take smaller ones later.
    words = ("mtu", str(LARGE_PACKET), "txqueuelen", "5000", "up")
    _run("ip", "-n", namespace, "link", "set", name, *words)
    return end


class _Way:
    """Packets from one end to the other."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self._sink = source, sink
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._free = 0.0

    def take(self, delay: float, rate: float) -> None:
        """Read packets that have come."""
        for _ in range(64):
            try:
                packet = os.read(self.source, 65_536)
            except BlockingIOError:
                return
            now = time.monotonic()
            self._free = max(self._free, now)
            if rate:
                if (self._free - now) * rate + len(packet) > QUEUE_BYTES:
                    continue
                self._free += len(packet) / rate
            self._waiting.append((self._free + delay, packet))

    def deliver(self) -> float | None:
        """Write what is due; returns the seconds until more is, if anything waits."""
        while self._waiting:
            due, packet = self._waiting[0]
            if (seconds := due - time.monotonic()) > 0:
                return seconds
            self._waiting.popleft()
            try:
                os.write(self._sink, packet)
            except OSError:
                pass  # the other end is down, or full: a packet that was lost
        return None


def carry(name: str, orders: IO[str]) -> None:
    """Carry packets until the orders end; each is a delay in seconds and a rate in bytes."""
    ends = [
        _device(f"{name}-{end[0]}", f"{name}-{end}", address)
        for end, address in (("edge", EDGE_IP), ("cloud", CLOUD_IP))
    ]
    ways = [_Way(ends[0], ends[1]), _Way(ends[1], ends[0])]
    print("ready", flush=True)
    delay = rate = 0.0
    while True:
        left = [seconds for way in ways if (seconds := way.deliver()) is not None]
        # Not poll, which knows whole milliseconds only.
        sources = [*ends, orders.fileno()]
        ready, _, _ = select.select(sources, [], [], min(left) if left else None)
        if orders.fileno() in ready:
            order = orders.readline()
            if not order:
                return
            delay, rate = map(float, order.split())
            print("changed", flush=True)
        for way in ways:
            way.take(delay, rate)


if __name__ == "__main__":
    carry(sys.argv[1], sys.stdin)
