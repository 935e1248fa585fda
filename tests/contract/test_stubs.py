"""The generated stubs are those of the committed contract."""

from __future__ import annotations

from pathlib import Path

import sft_common.pb
from sft_common.pb.generate import generate

COMMITTED = Path(sft_common.pb.__file__).parent / "sft" / "v1"


def test_regenerated_stubs_equal_the_committed_ones(tmp_path: Path) -> None:
    generate(tmp_path)
    fresh = sorted((tmp_path / "sft" / "v1").iterdir())
    assert [path.name for path in fresh] == [
        "federation_pb2.py",
        "federation_pb2.pyi",
        "federation_pb2_grpc.py",
        "operations_pb2.py",
        "operations_pb2.pyi",
        "operations_pb2_grpc.py",
        "split_training_pb2.py",
        "split_training_pb2.pyi",
        "split_training_pb2_grpc.py",
    ]
    for path in fresh:
        assert path.read_text() == (COMMITTED / path.name).read_text(), (
            f"{path.name} is stale: run `make proto` and commit the result"
        )
