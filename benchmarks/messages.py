"""What a message costs beside a raw socket that carries the same bytes, with a model of no work.

    python -m benchmarks.messages [--quick] [--json FILE]

Cloud and raw peer are processes of their own on loopback; each ratio is of rounds taken in turn.
"gRPC" is the floor: its own asyncio server sends back the bytes of a stream, in messages of up to
1 MB, each as soon as it is there, and nobody looks at them.
"""

from __future__ import annotations

import argparse
import queue
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import torch

from benchmarks.driven import Driven
from benchmarks.link import Link, linked
from benchmarks.null_cloud import null_cloud, null_shape, null_spec
from benchmarks.processes import peak_bytes, processor_seconds
from benchmarks.report import Benchmark, Figure, Found, in_turn, median_ratio, progress
from sft_common.rpc.access import Access
from sft_common.wire.pieces import PIECE_BYTES
from sft_edge.client import GrpcSession

SIZES = {"8 kB": 8_000, "270 kB": 270_000, "6.5 MB": 6_500_000, "25 MB": 25_000_000}
"""Of the activation, and of its gradient."""

BARS = {"8 kB": 14.0, "270 kB": 4.0, "6.5 MB": 2.3, "25 MB": 2.3}

WIDTH = 50

TOKEN_BYTES = 4 * WIDTH

EXAMPLES = 10

STREAMS = 64

LARGE_STREAMS = 4

FAR = Link("20 ms", 20, 0)

RAW_PEER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print("ready", listener.getsockname()[1], flush=True)
data = bytearray()
while True:
    near, _ = listener.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with near:
        while head := near.recv(8, socket.MSG_WAITALL):
            if len(data) != int.from_bytes(head, "big"):
                data = bytearray(int.from_bytes(head, "big"))
            near.recv_into(data, len(data), socket.MSG_WAITALL)
            near.sendall(data)
"""


GRPC_PEER = """
import asyncio, sys, grpc

async def echo(requests, context):
    async for request in requests:
        yield request

async def main():
    server = grpc.aio.server()
    methods = {"echo": grpc.stream_stream_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("peer", methods)])
    port = server.add_insecure_port(sys.argv[1] + ":0")
    await server.start()
    print("ready", port, flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


class Bare:
    """Sends bytes and takes as many back, over a gRPC stream and through no code of ours."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        echo: Any = self._channel.stream_stream("/peer/echo")
        self._replies = echo(iter(self._requests.get, None))
        self._pieces: list[bytes] = []

    def exchange(self, size: int) -> float:
        """Return the seconds of one round trip."""
        if sum(map(len, self._pieces)) != size:
            starts = range(0, size, PIECE_BYTES)
            self._pieces = [bytes(min(PIECE_BYTES, size - at)) for at in starts]
        begin = time.perf_counter()
        for piece in self._pieces:
            self._requests.put(piece)
        for _ in self._pieces:
            next(self._replies)
        return time.perf_counter() - begin

    def close(self) -> None:
        """End it."""
        self._requests.put(None)
        self._channel.close()


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
        head = size.to_bytes(8, "big")
        begin = time.perf_counter()
        sent = self._socket.sendmsg([head, self._data]) - len(head)
        self._socket.sendall(memoryview(self._data)[sent:])
        self._socket.recv_into(self._data, size, socket.MSG_WAITALL)
        return time.perf_counter() - begin

    def close(self) -> None:
        """End it."""
        self._socket.close()


class Edge:
    """Trains a model of no work."""

    def __init__(self, port: int) -> None:
        self._session = GrpcSession(
            Access(server=f"127.0.0.1:{port}"), null_spec(WIDTH), null_shape(WIDTH)
        )
        self._step = 0
        self._activation_TW = torch.zeros(0, WIDTH)

    def exchange(self, size: int, *, in_flight: int = 1) -> float:
        """Return the seconds of one step that is sent in equal parts of `size` bytes each."""
        lengths = [size // TOKEN_BYTES // EXAMPLES] * EXAMPLES
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
                exchange=number,
                share=1 / in_flight,
            )
        for _ in range(in_flight):
            self._session.end_step()
        seconds = time.perf_counter() - begin
        self._session.apply(self._step, 0.0, exchanges=in_flight)
        return seconds

    def close(self) -> None:
        """End the session."""
        self._session.close()


@contextmanager
def peer(folder: Path, program: str) -> Iterator[int]:
    """Run the other end of `Raw` or `Bare`; yields its port."""
    command = [sys.executable, "-c", program, "127.0.0.1"]
    with Driven(command, folder / "peer.log") as process:
        yield int(process.ready)


def lockstep(raw_port: int, bare_port: int, port: int, rounds: int) -> Iterator[Figure]:
    """Yield the ratio to the raw socket at each size."""
    with (
        closing(Raw(raw_port)) as raw,
        closing(Bare(bare_port)) as bare,
        closing(Edge(port)) as edge,
    ):
        for name, size in SIZES.items():
            progress(f"{name} in lockstep")
            repeats = max(1, min(50, 2_000_000 // size))

            def mean(
                exchange: Callable[[int], float], size: int = size, repeats: int = repeats
            ) -> float:
                return sum(exchange(size) for _ in range(repeats)) / repeats

            takes = {"raw": raw.exchange, "gRPC": bare.exchange, "sft": edge.exchange}
            found = in_turn({who: partial(mean, take) for who, take in takes.items()}, rounds)
            yield Figure(name=f"{name} in lockstep, raw, ms", value=1e3 * median(found["raw"]))
            floor = median_ratio(found["gRPC"], found["raw"])
            yield Figure(name=f"{name} in lockstep, gRPC, times raw", value=floor)
            ratio = median_ratio(found["sft"], found["raw"])
            yield Figure(name=f"{name} in lockstep, times raw", value=ratio, at_most=BARS[name])


def far(raw_port: int, bare_port: int, port: int, rounds: int) -> Iterator[Figure]:
    """Yield the ratios over a link with delay."""
    progress(f"over {FAR.name}")
    size = SIZES["270 kB"]
    with (
        linked(FAR, raw_port) as raw_link,
        linked(FAR, bare_port) as bare_link,
        linked(FAR, port) as link,
        closing(Raw(raw_link.port)) as raw,
        closing(Bare(bare_link.port)) as bare,
        closing(Edge(link.port)) as edge,
    ):
        found = in_turn(
            {
                "raw": lambda: raw.exchange(size),
                "gRPC": lambda: bare.exchange(size),
                "one": lambda: edge.exchange(size),
                "four": lambda: edge.exchange(size, in_flight=4) / 4,
            },
            rounds,
            warm_up=5,
        )
    what = f"270 kB at {FAR.name} round trip"
    floor = median_ratio(found["gRPC"], found["raw"])
    yield Figure(name=f"{what}, gRPC, times raw", value=floor)
    ratio = median_ratio(found["one"], found["raw"])
    yield Figure(name=f"{what}, times raw", value=ratio, at_most=1.1)
    ratio = median_ratio(found["four"], found["one"])
    yield Figure(name=f"{what}, four in flight over one", value=ratio, at_most=0.4)


@contextmanager
def edges_on(port: int, count: int) -> Iterator[list[Edge]]:
    """Open sessions."""
    with ExitStack() as stack:
        edges = []
        for _ in range(count):
            edges.append(Edge(port))
            stack.callback(edges[-1].close)
        yield edges


def side_by_side(edges: Sequence[Edge], size: int, steps: int, *, in_flight: int = 1) -> None:
    """Run steps on several streams at once."""

    def train(edge: Edge) -> None:
        for _ in range(steps):
            edge.exchange(size, in_flight=in_flight)

    with ThreadPoolExecutor(len(edges)) as pool:
        for done in [pool.submit(train, edge) for edge in edges]:
            done.result()


def many(port: int, pid: int, rounds: int) -> Iterator[Figure]:
    """Yield the cloud's processor time for a step at many streams over that at one."""
    progress(f"{STREAMS} streams")
    size, steps = SIZES["8 kB"], 40 * STREAMS
    with edges_on(port, 1) as one, edges_on(port, STREAMS) as all_of_them:

        def per_step(edges: Sequence[Edge]) -> float:
            begin = processor_seconds(pid)
            side_by_side(edges, size, steps // len(edges))
            return (processor_seconds(pid) - begin) / steps

        contenders = {"one": lambda: per_step(one), "many": lambda: per_step(all_of_them)}
        found = in_turn(contenders, rounds)
    ratio = median_ratio(found["many"], found["one"])
    yield Figure(
        name=f"processor time a step, {STREAMS} streams over one", value=ratio, at_most=1.4
    )


def memory(in_flight: int) -> Figure:
    """Return by how many payloads of each stream a fresh cloud grows."""
    progress("memory")
    size = SIZES["6.5 MB"]
    with null_cloud() as (port, pid), edges_on(port, LARGE_STREAMS) as edges:
        side_by_side(edges, SIZES["8 kB"], 3)
        before = peak_bytes(pid)
        side_by_side(edges, size, 5, in_flight=in_flight)
        grown = (peak_bytes(pid) - before) / size / LARGE_STREAMS
    what = "in lockstep" if in_flight == 1 else f"{in_flight} in flight"
    return Figure(
        name=f"growth at 6.5 MB {what}, payloads a stream",
        value=grown,
        at_most=4 if in_flight == 1 else None,
    )


def measure(options: argparse.Namespace) -> Found:
    """Measure everything, each part with a cloud of its own."""
    torch.set_num_threads(1)
    rounds = 5 if options.quick else 15
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="sft-messages-") as place:
        with peer(Path(place), RAW_PEER) as raw_port:
            with peer(Path(place), GRPC_PEER) as bare_port, null_cloud() as (port, _):
                figures += lockstep(raw_port, bare_port, port, rounds)
                figures += far(raw_port, bare_port, port, rounds)
            with null_cloud() as (port, pid):
                figures += many(port, pid, min(rounds, 5))
    figures += [memory(1), memory(4)]
    return Found(figures)


if __name__ == "__main__":
    Benchmark("messages", __doc__).run(measure)
