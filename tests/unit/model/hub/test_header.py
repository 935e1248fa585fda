"""A header says where the tensors are, and one that lies is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sft_common.errors import ModelError
from sft_common.model.hub import remote_file
from sft_common.model.hub.header import places
from sft_common.model.hub.remote_file import HEAD
from tests.range_server import RangeServer
from tests.unit.model.hub.published import FILE, KIB, assert_same, header_size, remote


def header(entries: object, body: int = 8) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


def entry(begin: object, end: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [begin, end]}


def test_a_header_longer_than_the_first_request(
    hub: RangeServer, original: Path, copy: Path
) -> None:
    many = {f"{'long name ' * 30}{n}": torch.full((8,), float(n)) for n in range(400)}
    save_file(many, original)
    assert header_size(original) > 2 * HEAD
    name = next(iter(many))
    assert remote(hub, copy).fetch([name]) < header_size(original) + KIB
    assert_same(copy, many, [name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header({"a": entry(0, 8), "b": entry(4, 8)}), "tensors overlap"),
        (header({"a": entry(0, 8), "b": entry(0, 8)}), "tensors overlap"),
        (header({"a": entry(4, 9)}), "tensor a at 4:9 of 8 bytes"),
        (header({"a": entry(-4, 4)}), "tensor a at -4:4"),
        (header({"a": entry(4, 0)}), "tensor a at 4:0"),
        (header({"a": entry(0.0, 4)}), "tensor a at 0.0:4"),
        (header({"a": entry(False, 4)}), "tensor a at False:4"),
        (header({"a": {**entry(0, 8), "shape": [-2]}}), r"tensor a of shape \[-2\]"),
        (header({"a": {**entry(0, 8), "shape": [True]}}), r"tensor a of shape \[True\]"),
        (header({"a": {**entry(0, 8), "shape": 2}}), "is not a safetensors file"),
        (header({"a": {"data_offsets": [1]}}), "is not a safetensors file"),
        (header({"a": {}}), "is not a safetensors file"),
        (header({"a": 3}), "is not a safetensors file"),
        (header([1, 2]), "is not a safetensors file"),
        ((2**63).to_bytes(8, "little") + b"{}", f"header of {2**63} bytes in a file of 10"),
        ((3).to_bytes(8, "little") + b"{}", "header of 3 bytes in a file of 10"),
        ((0).to_bytes(8, "little") + b"{}", "header of 0 bytes"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "is not a safetensors file"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "is not a safetensors file"),
        (b"\x80\x04 pickle", "is not a safetensors file"),
        (b"tiny", "is not a safetensors file"),
    ],
)
def test_a_hostile_header_is_refused(
    hub: RangeServer, original: Path, copy: Path, content: bytes, message: str
) -> None:
    original.write_bytes(content)
    for _ in range(2):
        with pytest.raises(ModelError, match=message):
            remote(hub, copy).fetch(["a"])


def test_a_shape_tells_where_rows_end() -> None:
    entries = {"matrix": {**entry(0, 40), "shape": [5, 2]}, "vector": {**entry(40, 48)}}
    found = places(json.dumps(entries).encode(), body=100, size=148)
    matrix, vector = found["matrix"], found["vector"]
    assert [matrix.first(rows) for rows in (0, 3, 5, 9, None)] == [
        (100, 100),
        (100, 124),
        *[(100, 140)] * 3,
    ]
    assert [vector.first(rows) for rows in (0, 1, 9, None)] == [(140, 140), *[(140, 148)] * 3]


def test_an_empty_file_is_refused(hub: RangeServer, original: Path, copy: Path) -> None:
    original.write_bytes(b"")
    with pytest.raises(ModelError, match=FILE):
        remote(hub, copy).tensors()


def test_a_header_above_the_limit_is_not_fetched(
    hub: RangeServer, copy: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "HEADER_LIMIT", 100)
    with pytest.raises(ModelError, match="header of"):
        remote(hub, copy).tensors()
