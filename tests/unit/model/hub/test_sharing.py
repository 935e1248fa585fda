"""Threads and processes share a copy; one that is killed leaves what it recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from torch import Tensor

from sft_common.model.hub.remote_file import HEAD
from tests.range_server import CHUNK, RangeServer
from tests.unit.model.hub.published import FILE, KIB, REPO, assert_same, owned, remote, size_of

FETCH = """
import sys
from pathlib import Path
from sft_common.model.hub.remote_file import RemoteFile
url, path, *names = sys.argv[1:]
print(RemoteFile(url, Path(path)).fetch(names))
"""


def recorded(copy: Path) -> int:
    sidecar = copy.with_name(f"{FILE}.ranges")
    if not sidecar.exists():
        return 0
    pieces = json.loads(sidecar.read_text().splitlines()[1])[2]
    return sum(end - begin for begin, end, _ in pieces)


def process(
    hub: RangeServer, copy: Path, names: list[str], setup: str = ""
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", setup + FETCH, hub.file_url(REPO, FILE), str(copy), *names],
        env={**os.environ, "HF_HUB_OFFLINE": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_leaves_what_it_recorded(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    hub.stall_after = 40 * CHUNK
    setup = "from sft_common.model.hub import sparse_copy\nsparse_copy.RECORD_EVERY = 65536\n"
    first = process(hub, copy, ["embeddings.weight"], setup)
    assert hub.stalled.wait(60)
    came = hub.sent[FILE]
    deadline = time.monotonic() + 60
    while recorded(copy) < came - 64 * KIB and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    first.communicate()
    hub.released.set()
    rest = remote(hub, copy).fetch(["embeddings.weight"])
    wanted = HEAD + size_of(tensors, ["embeddings.weight"])
    assert came > 40 * CHUNK and came + rest <= wanted + 2 * 64 * KIB
    assert_same(copy, tensors, ["embeddings.weight"])


def test_two_processes_share_a_copy(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    parts = (owned([0, 1]), owned([1, 2]))
    both = [process(hub, copy, names) for names in parts]
    counts = [int(one.communicate(timeout=120)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    names = owned([0, 1, 2])
    assert sum(counts) == hub.sent[FILE] <= size_of(tensors, names) + 2 * HEAD + 4 * 64 * KIB
    assert_same(copy, tensors, names)
    assert remote(hub, copy).fetch(names) == 0


@pytest.mark.parametrize("same_object", [True, False])
def test_threads_share_a_copy(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor], same_object: bool
) -> None:
    file = remote(hub, copy, gap=0)
    counts: list[int] = []

    def fetch(block: int) -> None:
        mine = file if same_object else remote(hub, copy, gap=0)
        counts.append(mine.fetch(owned([block, (block + 1) % 4])))

    threads = [threading.Thread(target=fetch, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = owned([0, 1, 2, 3])
    assert sum(counts) == hub.sent[FILE] <= size_of(tensors, names) + HEAD
    assert len(counts) == 4
    assert_same(copy, tensors, names)
