"""gRPC passes over an option that it does not know, so a misspelt one does nothing."""

from __future__ import annotations

from pathlib import Path

from grpc._cython import cygrpc

from sft_common.rpc.options import CHANNEL_OPTIONS, SERVER_OPTIONS, pinged, sized


def test_grpc_knows_every_option() -> None:
    grpc = Path(cygrpc.__file__).read_bytes()
    options = sized(pinged([*CHANNEL_OPTIONS, *SERVER_OPTIONS], 60, 20), 2**26)
    unknown = [name for name, _ in options if f"{name}\0".encode() not in grpc]
    assert not unknown
