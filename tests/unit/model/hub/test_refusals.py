"""What a server refuses, or cannot do, is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from sft_common.errors import ModelError
from sft_common.model.hub.remote_file import HEAD, RemoteFile
from tests.range_server import RangeServer
from tests.unit.model.hub.published import FILE, KIB, assert_same, remote


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (200, "HTTP 200, its server sends whole files only; download the model"),
        (401, "HTTP 401, there is no such model, or it needs a login; run 'hf auth login'"),
        (403, "HTTP 403, the login may not read it; accept the model's terms"),
        (404, "HTTP 404, there is no such file; take a model or revision that has safetensors"),
        (410, "HTTP 410, its server refuses it"),
        (416, "changes while it is fetched"),
        (503, r"cannot be fetched after 6 attempts \(HTTP 503\)"),
    ],
)
def test_a_refusal_is_one_clear_line(
    hub: RangeServer, copy: Path, status: int, message: str
) -> None:
    hub.whole_files_only = status == 200
    hub.statuses = [] if status == 200 else [status] * 6
    with pytest.raises(ModelError, match=message) as caught:
        remote(hub, copy).fetch(["scalar"])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(hub.url)
    assert hub.sent[FILE] <= 4 * 1024 * KIB
    hub.whole_files_only, hub.statuses = False, []
    assert remote(hub, copy).fetch(["scalar"]) == HEAD


def test_a_server_that_is_busy_for_a_while_is_waited_for(
    hub: RangeServer, copy: Path, tensors: dict[str, Tensor]
) -> None:
    hub.statuses = [503, 429, 502]
    remote(hub, copy).fetch(["scalar"])
    assert_same(copy, tensors, ["scalar"])


@pytest.mark.parametrize(
    "told", ["nothing", "bytes 1-65536/999999", "bytes 0-99999/999999", "bytes 0-65535/*"]
)
def test_an_answer_for_other_bytes_is_refused(hub: RangeServer, copy: Path, told: str) -> None:
    hub.content_range = told
    with pytest.raises(ModelError, match="asked for bytes 0-65535, its server sent"):
        remote(hub, copy).tensors()
    assert not copy.exists()


def test_no_server_at_all(copy: Path, hub: RangeServer) -> None:
    file = RemoteFile("http://127.0.0.1:9/nothing", copy)
    with pytest.raises(ModelError, match="cannot be fetched after 6 attempts"):
        file.tensors()


def test_a_disk_that_takes_nothing(hub: RangeServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ModelError, match="cannot keep .*; make room or set HF_HOME"):
        remote(hub, tmp_path / "file" / FILE).tensors()


def test_an_unknown_name_is_refused(hub: RangeServer, copy: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors has no tensor layer\.9"):
        remote(hub, copy).fetch(["scalar", "layer.9"])
