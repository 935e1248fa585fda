"""What a cloud's greeting means: version, clock and room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sft_common import PROTOCOL_VERSION
from sft_common.errors import ProtocolError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.access import Access
from sft_common.rpc.greeting import Greeting, greeting_from_proto, greeting_to_proto
from sft_edge.doctor.cloud import Met, check_clock, check_login, check_protocol, check_room
from sft_edge.doctor.finding import Verdict
from sft_edge.doctor.link import check_link
from sft_edge.link import Link

GREETING = Greeting(
    protocol_version=PROTOCOL_VERSION,
    software_version="0.1.0",
    clock_seconds=1.7e9,
    device="cpu",
    max_message_bytes=2**26,
    snapshots=True,
    free_memory_bytes=10**9,
    free_places=3,
    draining=False,
)


def met(greeting: Greeting = GREETING, ahead: float = 0.0, error: float = 0.0) -> Met:
    return Met(greeting=greeting, clock_ahead_seconds=ahead, clock_error_seconds=error)


def test_a_greeting_survives_its_message() -> None:
    message = greeting_to_proto(GREETING, 77)
    assert len(message.payload) == 77
    assert greeting_from_proto(message) == GREETING


def test_words_of_a_cloud_are_short_and_printable() -> None:
    message = pb.GreetResponse(software_version="\x1b[2J" + 9000 * "x", device="a\nb")
    found = greeting_from_proto(message)
    assert found.software_version.startswith("\\x1b[2Jxx") and len(found.software_version) < 210
    assert found.device == "a\\nb"


def test_a_clock_without_a_time_is_refused() -> None:
    with pytest.raises(ProtocolError, match="clock shows nan"):
        greeting_from_proto(pb.GreetResponse(clock_seconds=float("nan")))


def test_another_protocol_is_wrong() -> None:
    assert check_protocol(met()).verdict is Verdict.OK
    other = replace(GREETING, protocol_version=PROTOCOL_VERSION + 1, software_version="9.0")
    finding = check_protocol(met(other))
    assert finding.verdict is Verdict.WRONG
    assert f"the cloud 9.0 speaks version {PROTOCOL_VERSION + 1}" in finding.found
    assert "same version of sft" in finding.advice


@pytest.mark.parametrize(
    ("ahead", "error", "verdict", "words"),
    [
        (0.5, 0.1, Verdict.OK, "0.50 s ahead of"),
        (-59.0, 0.1, Verdict.OK, "59.00 s behind"),
        (61.0, 5.0, Verdict.OK, "give or take 5.00 s"),
        (-75.0, 0.1, Verdict.WARNING, "75.00 s behind"),
        (1e6, 0.1, Verdict.WARNING, "1,000,000.00 s ahead of"),
    ],
)
def test_clocks_that_are_apart(ahead: float, error: float, verdict: Verdict, words: str) -> None:
    finding = check_clock(met(ahead=ahead, error=error))
    assert finding.verdict is verdict and words in finding.found


def test_room_for_one_more() -> None:
    assert check_room(met()).verdict is Verdict.OK
    assert "it keeps snapshots" in check_room(met()).found
    full = check_room(met(replace(GREETING, free_places=0)))
    assert full.verdict is Verdict.WARNING and "--wait" in full.advice
    assert check_room(met(replace(GREETING, draining=True))).verdict is Verdict.SKIPPED


def test_what_was_shown_is_said_but_not_the_token() -> None:
    finding = check_login(Access(server="localhost:1", token="secret"))
    assert "it showed a token" in finding.found and "secret" not in finding.found


def test_what_a_link_means_for_a_step() -> None:
    near = Link(round_trip_seconds=0.001, up_bytes_per_second=1e8, down_bytes_per_second=1e8)
    finding = check_link(near)
    assert finding.verdict is Verdict.OK
    assert "32 x 13 tokens x 10 bytes, 4.2 kB each way" in finding.found
    assert "up 800.0, down 800.0 Mbit/s" in finding.found
    far = check_link(replace(near, round_trip_seconds=0.3))
    assert far.verdict is Verdict.WARNING and "--edge frozen" in far.advice
