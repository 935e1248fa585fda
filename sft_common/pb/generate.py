"""Regenerate the stubs from protos/: `python -m sft_common.pb.generate [TARGET]`."""

from __future__ import annotations

import sys
from pathlib import Path

PROTOS = Path(__file__).parents[2] / "protos"
PACKAGE = "sft_common.pb"


def generate(target: Path) -> None:
    """Write message and service stubs with their type stubs below `target`.

    protoc writes imports relative to the proto root; they are moved under this package.
    """
    from grpc_tools import protoc

    sources = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    arguments = [f"--{plugin}_out={target}" for plugin in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{PROTOS}", *arguments, *sources]):
        raise SystemExit("protoc failed")
    for stub in target.rglob("*_pb2*.py*"):
        text = stub.read_text()
        stub.write_text(text.replace("from sft.v1 import", f"from {PACKAGE}.sft.v1 import"))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
