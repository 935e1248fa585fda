"""A cloud among hostile edges: a short storm of the fuzzer, and what longer ones found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.fuzz import storm
from sft_common.config import SessionSpec, SplitSpec
from sft_common.errors import ProtocolError
from sft_common.model.families import shape_of
from sft_common.model.loading import Pretrained
from sft_common.rpc.access import Access
from sft_common.rpc.options import SERVICE
from sft_common.rpc.status import error_of
from sft_edge.client import GrpcSession
from tests.processes import Cloud, running_cloud


def test_three_thousand_wrong_messages_disturb_nobody(tmp_path: Path) -> None:
    """Fixed seed; `python -m benchmarks.fuzz` sends as many as one likes."""
    found = storm(tmp_path, messages=3000, seed=11, seconds=120)
    assert [finding.what for finding in found.findings] == []
    tally = found.tally
    assert tally.wrong >= 3000 and tally.inside > 300 and found.steps > 10
    assert {"opened", "resumed", "step_result", "evaluation"} <= set(tally.answers)
    reached = {name.partition(": ")[2] for name in tally.streams}
    assert {"ProtocolError", "ConfigError", "MismatchError", "SessionLostError"} <= reached
    assert len(tally.refusals) > 60, "the storm must not break at the first check"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.mark.parametrize("method", ["Follow", "Export", "Greet"])
def test_a_call_with_what_is_no_message_is_refused(cloud: Cloud, method: str) -> None:
    """Once it was logged as a defect, with a traceback (seed 1)."""
    with grpc.insecure_channel(cloud.server) as channel:
        call: Any = channel.unary_stream(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.RpcError) as raised:
            list(call(b"\x01\xe4\xf4", timeout=20))
    error = error_of(raised.value)
    assert isinstance(error, ProtocolError) and "a request of 3 bytes cannot be read" in str(error)
    assert "Traceback" not in cloud.log.read_text()


@pytest.mark.parametrize("cut", ["sft", "sft-output", "svd-residual"])
def test_the_smallest_rank_is_served(cloud: Cloud, tiny_model: Path, cut: str) -> None:
    """Once no session of rank 1 could be opened (seed 1)."""
    pretrained = Pretrained(tiny_model, num_labels=2)
    spec = SessionSpec(
        model=pretrained.identity(str(tiny_model)),
        split=SplitSpec(cut=cut, split_layer=2, rank=1),
        num_labels=2,
    )
    session = GrpcSession(Access(server=cloud.server), spec, shape_of(pretrained.config))
    assert session.edge_factor is not None and session.edge_factor.shape[1] == 1
    session.close()
