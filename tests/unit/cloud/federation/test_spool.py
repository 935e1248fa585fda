"""Updates that wait on disk: without a name, and without memory."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_cloud.federation.keeping import Keeper, Progress
from sft_cloud.federation.registry import Federations
from sft_cloud.federation.servicer import FederationServicer
from sft_cloud.federation.spool import Spooled, spooled
from sft_cloud.metrics import Metrics
from sft_common.errors import ProtocolError, RetryLaterError
from sft_common.federation.tensors import shapes_of, tensors_to_bytes
from sft_common.pb.sft.v1 import federation_pb2 as fb
from sft_common.rpc.federation import attempt_to_proto
from tests.unit.cloud.federation.scene import SHARED, Beginning, led, plan, play

TENSORS = {"w": torch.arange(300_000, dtype=torch.float32), "b": torch.tensor(2.5)}


def mapped(folder: Path) -> int:
    """Return how many files of a folder that have no name this process reads as memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum(f"{folder}/.update-" in line and "(deleted)" in line for line in lines)


def test_tensors_outlive_the_name_of_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    with closing(Spooled(folder)) as file:
        data = tensors_to_bytes(TENSORS)
        file.write(data[:1000])
        file.write(data[1000:])
        assert len(list(folder.iterdir())) == 1
        found = file.tensors(shapes_of(TENSORS), "an update")
    assert not list(folder.iterdir())
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert mapped(folder)
    del found
    assert not mapped(folder)


def test_nothing_is_no_file(tmp_path: Path) -> None:
    assert spooled(tmp_path / "f", {}) == {}
    assert not (tmp_path / "f").exists()
    with closing(Spooled(None)) as file:
        assert file.tensors({}, "an update") == {}


def test_what_is_no_update_is_refused(tmp_path: Path) -> None:
    with closing(Spooled(tmp_path)) as file:
        file.write(tensors_to_bytes(TENSORS)[:-1])
        with pytest.raises(ProtocolError, match="an update cannot be read"):
            file.tensors(shapes_of(TENSORS), "an update")
    with closing(Spooled(tmp_path)) as file:
        file.write(tensors_to_bytes({"w": TENSORS["w"]}))
        with pytest.raises(ProtocolError, match="an update: tensor 'b' is missing"):
            file.tensors(shapes_of(TENSORS), "an update")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_nothing_now_may_do_so_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RetryLaterError, match="the cloud's disk takes no update: File exists"):
        Spooled(tmp_path / "file")

    def full(data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with closing(Spooled(tmp_path)) as file:
        monkeypatch.setattr(file._file, "write", full)
        with pytest.raises(RetryLaterError, match="No space left on device"):
            file.write(b"a")


def test_a_file_is_written_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Spooled(tmp_path)) as file:
        write = file._file.write
        monkeypatch.setattr(file._file, "write", lambda data: write(data[:7]))
        file.write(tensors_to_bytes(TENSORS)[:100])
        assert file._path.stat().st_size == 100


def test_what_a_killed_cloud_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    with closing(Spooled(tmp_path)) as file:
        file.write(b"the beginning of one")
        assert list(tmp_path.iterdir())
        assert Keeper(tmp_path, plan()).read() is None
        assert not list(tmp_path.iterdir())


def test_both_halves_of_an_update_wait_on_disk_until_the_round_ends(tmp_path: Path) -> None:
    async def story() -> None:
        known = plan(rounds=1, method="splitfed", cut=SHARED["cut"])
        async with led(known, Beginning(cloud=True), tmp_path) as scene:
            scene.join("a", "b", "c")
            scene.nets = {client: {"n": torch.tensor([4.0])} for client in "abc"}
            works = {client: await scene.work(client) for client in "abc"}
            for client, files in (("a", 2), ("b", 4)):
                await scene.hand_in(client, works[client], 1.0, session_id=client)
                assert mapped(tmp_path) == files
            await scene.hand_in("c", works["c"], 4.0, session_id="c")
            await scene.until(lambda: scene.federation.progress.done == 1)
            await scene.until(lambda: not mapped(tmp_path))
            assert scene.average == [2.0, 2.0]
            assert scene.federation.progress.state.cloud["n"].tolist() == [4.0]

    play(story())


@pytest.mark.parametrize(
    "trouble",
    [
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("unable to mmap 16 bytes from file: Cannot allocate memory (12)"),
    ],
)
def test_the_clouds_own_trouble_is_not_the_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def fail(path: Path) -> None:
        raise trouble

    monkeypatch.setattr("sft_common.federation.tensors.load_file", fail)
    with closing(Spooled(tmp_path)) as file:
        file.write(tensors_to_bytes(TENSORS))
        with pytest.raises(RetryLaterError, match="the cloud's disk takes no update"):
            file.tensors(shapes_of(TENSORS), "an update")


def test_a_file_is_not_closed_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor's number may be another file's by then."""
    file, told, go_on = Spooled(tmp_path), threading.Event(), threading.Event()
    write = file._file.write

    def slow(data: Any) -> int:
        told.set()
        assert go_on.wait(5)
        return write(data)

    monkeypatch.setattr(file._file, "write", slow)
    writer = threading.Thread(target=file.write, args=(b"a piece",))
    writer.start()
    assert told.wait(5)
    closer = threading.Thread(target=file.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive() and not file._file.closed
    go_on.set()
    writer.join(5)
    closer.join(5)
    assert file._file.closed and not list(tmp_path.iterdir())


def test_updates_leave_the_disk_before_their_average_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, keep = [], Keeper.write

    def write(keeper: Keeper, progress: Progress) -> None:
        seen.append(mapped(tmp_path))
        keep(keeper, progress)

    monkeypatch.setattr(Keeper, "write", write)

    async def story() -> None:
        async with led(plan(rounds=1), Beginning("calibrate-cut"), tmp_path) as scene:
            scene.join("a", "b", "c")
            for name in ("mean", "w"):
                works = {client: await scene.work(client) for client in "abc"}
                for client, work in works.items():
                    await scene.hand_in(client, work, 1.0, name=name)
            await scene.until(lambda: len(seen) == 2)

    play(story())
    assert seen == [0, 0]


@pytest.mark.parametrize("kept", [False, True])
def test_an_upload_that_outlives_its_round_is_refused_and_the_client_stays(
    tmp_path: Path, kept: bool
) -> None:
    """Whatever is drawn or swept in the federation's folder meanwhile."""

    async def story() -> None:
        known = plan(rounds=2, round_seconds=1.0)
        async with led(known, folder=tmp_path if kept else None) as scene:
            scene.join("a", "b", "c")
            works = {client: await scene.work(client) for client in "abc"}
            servicer = FederationServicer(Federations([scene.federation]), Metrics())
            data, go_on = tensors_to_bytes({"w": torch.ones(2)}), asyncio.Event()

            async def requests() -> AsyncIterator[bytes]:
                header = fb.HandInHeader(
                    federation="f",
                    client="c",
                    incarnation=1,
                    attempt=attempt_to_proto(works["c"].attempt),
                    examples=1,
                    following=len(data),
                )
                yield fb.HandInRequest(header=header).SerializeToString()
                yield fb.HandInRequest(piece=data[:50]).SerializeToString()
                await go_on.wait()
                yield fb.HandInRequest(piece=data[50:]).SerializeToString()

            late = asyncio.create_task(servicer._hand_in(requests(), ""))
            for client in "ab":
                await scene.hand_in(client, works[client], 1.0)
            await scene.work("a")
            go_on.set()
            answer = await late
            assert not answer.taken and "is over" in answer.reason

    play(story())
    assert not list(tmp_path.glob(".update-*"))
