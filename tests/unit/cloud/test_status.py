"""What `sft-cloud status` prints: everything for people, nothing that a peer could play with."""

from __future__ import annotations

import pytest

from sft_cloud.amounts import amount, span
from sft_cloud.status import facts_of, plain_table
from sft_common.pb.sft.v1 import operations_pb2 as pb


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "-"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2.5e9, "2.5 GB"),
        (3e15, "3000.0 TB"),
    ],
)
def test_amounts(size: float, text: str) -> None:
    assert amount(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (172_800, "2.0 d")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_names_of_peers_stay_in_their_cells() -> None:
    hostile = "[bold]x\x1b[2J\r\nfake  at work[/bold]"
    summary = pb.SessionSummary(
        session_id="ab" * 8, state=pb.SESSION_STATE_WAITING, owner=hostile, model=hostile, cut="sft"
    )
    table = plain_table([summary])
    head, row = table.splitlines()
    assert row.isprintable() and "[bold]x\\x1b[2J\\r\\nfake" in row
    assert row.startswith("ab" * 8) and "waiting" in row


def test_facts_name_the_state() -> None:
    facts = facts_of(pb.SessionSummary(state=pb.SESSION_STATE_AT_WORK, steps=2**40))
    assert (facts["state"], facts["steps"], facts["owner"]) == ("at_work", 2**40, "")
