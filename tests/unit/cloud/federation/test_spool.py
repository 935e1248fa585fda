"""Updates that wait on disk: without a name, and without memory."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_cloud.federation.keeping import Keeper
from sft_cloud.federation.spool import Spooled, spooled
from sft_common.errors import ProtocolError, RetryLaterError
from sft_common.federation.tensors import shapes_of, tensors_to_bytes
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
        assert Path(file._file.name).stat().st_size == 100


def test_what_a_killed_cloud_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".update-abc.partial").touch()
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
