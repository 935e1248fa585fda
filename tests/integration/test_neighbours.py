"""One well-behaved edge beside others that stall, flood and send garbage."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import torch

from benchmarks.processes import resident_bytes
from sft_common.config import SessionSpec, SplitSpec
from sft_common.model.loading import Pretrained
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.options import SERVICE
from sft_common.rpc.spec import spec_to_proto
from sft_common.wire.codec import tensor_to_proto
from tests.scene import Scene, new_scene
from tests.warm import Forge

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def scene(
    programs: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("neighbours")
    limits = ("--max-sessions", 12, "--open-timeout", 3, "--park-after", 15)
    with new_scene(programs, place, tiny_model, *limits) as made:
        yield made


@pytest.fixture(scope="module")
def opening(tiny_model: Path) -> bytes:
    identity = Pretrained(tiny_model, num_labels=2).identity(str(tiny_model))
    spec = SessionSpec(
        model=identity, split=SplitSpec(cut="sft", split_layer=2, rank=4), num_labels=2
    )
    return pb.TrainRequest(open=spec_to_proto(spec)).SerializeToString()


def step(number: int, examples: int = 2) -> bytes:
    rows = tensor_to_proto(torch.ones(2 * examples, 4))
    lengths, labels = [2] * examples, [0] * examples
    message = pb.Step(step=number, activation=rows, lengths=lengths, labels=labels, share=1.0)
    return pb.TrainRequest(step=message).SerializeToString()


def apply(number: int) -> bytes:
    message = pb.Apply(step=number, learning_rate=1e-3, exchanges=1)
    return pb.TrainRequest(apply=message).SerializeToString()


class Neighbour:
    """Does one thing again and again until it is stopped.

    Args:
        once: does it; is handed how to find out whether to stop.
    """

    def __init__(self, once: Callable[[Callable[[], bool]], None]) -> None:
        self._once, self._enough = once, threading.Event()
        self.times = 0
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()

    def _go(self) -> None:
        while not self._enough.is_set():
            try:
                self._once(self._enough.is_set)
            except (grpc.RpcError, OSError):
                self._enough.wait(0.02)
            self.times += 1


def stalling(server: str, opening: bytes) -> Callable[[Callable[[], bool]], None]:
    """Opens, begins a step, and neither reads nor goes on; or says nothing at all."""

    def once(enough: Callable[[], bool]) -> None:
        with grpc.insecure_channel(server) as channel:
            asked = random.Random(0).sample([[], [opening], [opening, step(1)]], 3)

            def silent(messages: list[bytes]) -> Iterator[bytes]:
                yield from messages
                while not enough():
                    time.sleep(0.05)

            calls = [channel.stream_stream(f"/{SERVICE}/Train")(silent(each)) for each in asked]
            while not enough() and any(call.is_active() for call in calls):
                time.sleep(0.05)

    return once


def flooding(server: str, opening: bytes) -> Callable[[Callable[[], bool]], None]:
    """Sends steps as fast as it can, each in order, and reads no answer."""

    def once(enough: Callable[[], bool]) -> None:
        def flood() -> Iterator[bytes]:
            yield opening
            for number in range(1, 10**6):
                yield step(number, examples=64)
                yield apply(number)
                if enough():
                    return

        with grpc.insecure_channel(server) as channel:
            call = channel.stream_stream(f"/{SERVICE}/Train")(flood())
            while not enough() and call.is_active():
                time.sleep(0.05)

    return once


def babbling(server: str, opening: bytes) -> Callable[[Callable[[], bool]], None]:
    """Sends bytes that mean nothing: as messages, behind a good opening, and to the bare port."""
    draw = random.Random(7)
    host, port = server.split(":")

    def once(enough: Callable[[], bool]) -> None:
        garbage = [draw.randbytes(draw.randrange(1, 3000)) for _ in range(3)]
        with grpc.insecure_channel(server) as channel:
            for messages in (garbage, [opening, *garbage], [opening, step(1), garbage[0]]):
                try:
                    list(channel.stream_stream(f"/{SERVICE}/Train")(iter(messages)))
                except grpc.RpcError:
                    continue
        with socket.create_connection((host, int(port))) as bare:
            bare.sendall(garbage[0])

    return once


def test_a_good_edge_does_not_notice_bad_neighbours(scene: Scene, opening: bytes) -> None:
    cloud = scene.cloud
    before = resident_bytes(cloud.program.pid)
    bad = [Neighbour(kind(cloud.server, opening)) for kind in (stalling, flooding, babbling)]
    time.sleep(0.5)
    try:
        assert scene.train("good").wait() == 0, scene.said("good")
        most = resident_bytes(cloud.program.pid)
    finally:
        for neighbour in bad:
            neighbour.stop()
    scene.check_same_end("good")
    assert "connection" not in scene.said("good")
    assert bad[2].times > 3
    assert most - before < 150 * MEGABYTE
    log = cloud.log.read_text()
    assert "Traceback" not in log and "the cloud failed" not in log
    assert "first request must be open or resume" in log
    assert scene.train("afterwards").wait() == 0
    scene.check_same_end("afterwards")
