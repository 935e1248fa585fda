"""What a message costs beside a raw socket that carries the same bytes, with a model of no work.

    python -m benchmarks.messages [--quick] [--json FILE]

Cloud and raw peer are processes of their own on loopback; each ratio is of rounds taken in turn.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from benchmarks.link import Link, linked
from benchmarks.null_cloud import null_cloud, null_shape, null_spec
from benchmarks.processes import peak_bytes, processor_seconds
from benchmarks.report import Figure, benchmark_parser, in_turn, median_ratio, show
from sft_edge.client import GrpcSession

SIZES = {"8 kB": 8_000, "270 kB": 270_000, "6.5 MB": 6_500_000, "25 MB": 25_000_000}
"""Of the activation, and of its gradient."""

BARS = {"8 kB": 14.0, "270 kB": 4.0, "6.5 MB": 2.3, "25 MB": 2.3}

WIDTH = 100

EXAMPLES = 20

STREAMS = 64

LARGE_STREAMS = 4

FAR = Link("20 ms", 20, 0)

RAW_PEER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    near, _ = listener.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with near:
        while head := near.recv(8, socket.MSG_WAITALL):
            data = bytearray(int.from_bytes(head, "big"))
            near.recv_into(data, len(data), socket.MSG_WAITALL)
            near.sendall(data)
"""


class Raw:
    """Sends bytes and takes as many back, over a bare socket; they are copied nowhere else."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()

    def exchange(self, size: int) -> float:
        """Return the seconds of one round trip."""
        if len(self._data) != size:
            self._data = bytearray(size)
        begin = time.perf_counter()
        self._socket.sendall(size.to_bytes(8, "big"))
        self._socket.sendall(self._data)
        self._socket.recv_into(self._data, size, socket.MSG_WAITALL)
        return time.perf_counter() - begin

    def close(self) -> None:
        """End it."""
        self._socket.close()


class Edge:
    """Trains a model of no work."""

    def __init__(self, port: int) -> None:
        self._session = GrpcSession(
            f"127.0.0.1:{port}", null_spec(WIDTH), null_shape(WIDTH), connect_seconds=30
        )
        self._step = 0
        self._activation_TW = torch.zeros(0, WIDTH)

    def exchange(self, size: int, *, in_flight: int = 1) -> float:
        """Return the seconds of one step that is sent in equal parts of `size` bytes each."""
        lengths = [size // 4 // WIDTH // EXAMPLES] * EXAMPLES
        if len(self._activation_TW) != sum(lengths):
            self._activation_TW = torch.randn(sum(lengths), WIDTH)
        self._step += 1
        begin = time.perf_counter()
        for number in range(in_flight):
            self._session.begin_step(
                self._step,
                self._activation_TW,
                lengths,
                [0] * EXAMPLES,
                micro_batch=number,
                share=1 / in_flight,
            )
        for _ in range(in_flight):
            self._session.end_step()
        seconds = time.perf_counter() - begin
        self._session.apply(self._step, 0.0, micro_batches=in_flight)
        return seconds

    def close(self) -> None:
        """End the session."""
        self._session.close()


@contextmanager
def raw_peer() -> Iterator[int]:
    """Run the other end of `Raw`; yields its port."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", RAW_PEER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def lockstep(raw_port: int, port: int, rounds: int) -> Iterator[Figure]:
    """Yield the ratio to the raw socket at each size."""
    raw, edge = Raw(raw_port), Edge(port)
    for name, size in SIZES.items():
        repeats = max(1, min(50, 2_000_000 // size))

        def mean(exchange: Callable[[int], float], size: int = size, n: int = repeats) -> float:
            return sum(exchange(size) for _ in range(n)) / n

        found = in_turn(
            {"raw": lambda: mean(raw.exchange), "sft": lambda: mean(edge.exchange)}, rounds
        )
        ratio = median_ratio(found["sft"], found["raw"])
        yield Figure(name=f"{name} in lockstep, times raw", value=ratio, at_most=BARS[name])
    raw.close()
    edge.close()


def far(raw_port: int, port: int, rounds: int) -> Iterator[Figure]:
    """Yield the ratios over a link with delay."""
    size = SIZES["270 kB"]
    with linked(FAR, raw_port) as raw_link, linked(FAR, port) as link:
        raw, edge = Raw(raw_link.port), Edge(link.port)
        found = in_turn(
            {
                "raw": lambda: raw.exchange(size),
                "one": lambda: edge.exchange(size),
                "four": lambda: edge.exchange(size, in_flight=4) / 4,
            },
            rounds,
            warm_up=5,
        )
        raw.close()
        edge.close()
    what = f"270 kB at {FAR.name} round trip"
    ratio = median_ratio(found["one"], found["raw"])
    yield Figure(name=f"{what}, times raw", value=ratio, at_most=1.1)
    ratio = median_ratio(found["four"], found["one"])
    yield Figure(name=f"{what}, four in flight over one", value=ratio, at_most=0.4)


def side_by_side(port: int, streams: int, size: int, steps: int) -> None:
    """Run steps on several streams at once."""
    with ExitStack() as stack:
        edges = [Edge(port) for _ in range(streams)]
        for edge in edges:
            stack.callback(edge.close)

        def train(edge: Edge) -> None:
            for _ in range(steps):
                edge.exchange(size)

        threads = [threading.Thread(target=train, args=[edge]) for edge in edges]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def many(port: int, pid: int, rounds: int) -> Iterator[Figure]:
    """Yield the cloud's processor time for a step at many streams over that at one."""
    size, steps = SIZES["8 kB"], 40

    def per_step(streams: int) -> float:
        each = steps * STREAMS // streams
        begin = processor_seconds(pid)
        side_by_side(port, streams, size, each)
        return (processor_seconds(pid) - begin) / (streams * each)

    found = in_turn({"one": lambda: per_step(1), "many": lambda: per_step(STREAMS)}, rounds)
    ratio = median_ratio(found["many"], found["one"])
    yield Figure(
        name=f"processor time a step, {STREAMS} streams over one", value=ratio, at_most=1.4
    )


def memory() -> Iterator[Figure]:
    """Yield by how many payloads of each stream a fresh cloud grows."""
    size = SIZES["6.5 MB"]
    with null_cloud() as (port, pid):
        side_by_side(port, LARGE_STREAMS, SIZES["8 kB"], 3)
        before = peak_bytes(pid)
        side_by_side(port, LARGE_STREAMS, size, 5)
        grown = (peak_bytes(pid) - before) / size / LARGE_STREAMS
    yield Figure(name="growth at 6.5 MB, payloads a stream", value=grown, at_most=4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = benchmark_parser("messages", __doc__).parse_args(arguments)
    torch.set_num_threads(1)
    rounds = 5 if options.quick else 15
    figures: list[Figure] = []
    with raw_peer() as raw_port, null_cloud() as (port, pid):
        figures += lockstep(raw_port, port, rounds)
    with raw_peer() as raw_port, null_cloud() as (port, pid):
        figures += far(raw_port, port, rounds)
        figures += many(port, pid, min(rounds, 5))
    figures += memory()
    show("messages", figures, options)


if __name__ == "__main__":
    main()
