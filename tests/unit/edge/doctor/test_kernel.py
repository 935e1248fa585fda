"""What the kernel's settings do to a link."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_edge.doctor.finding import Finding, Verdict
from sft_edge.doctor.kernel import check_kernel
from sft_edge.link import Link

NEAR = Link(round_trip_seconds=0.0005, up_bytes_per_second=1e9, down_bytes_per_second=1e9)
FAR = Link(round_trip_seconds=0.05, up_bytes_per_second=1e8, down_bytes_per_second=1e6)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "tcp_slow_start_after_idle").write_text("1\n")
    (tmp_path / "tcp_congestion_control").write_text("bbr\n")
    (tmp_path / "tcp_wmem").write_text("4096\t16384\t4194304\n")
    (tmp_path / "tcp_rmem").write_text("4096\t131072\t4194304\n")
    return tmp_path


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.verdict.value for finding in findings}


def test_a_near_cloud_does_not_mind(settings: Path) -> None:
    assert set(verdicts(check_kernel(NEAR, settings)).values()) == {"ok"}


def test_a_far_one_does(settings: Path) -> None:
    findings = check_kernel(FAR, settings)
    assert verdicts(findings) == {
        "tcp_slow_start_after_idle": "warning",
        "tcp_congestion_control": "warning",
        "tcp_wmem": "warning",
        "tcp_rmem": "ok",
    }
    slow, _, send, receive = findings
    assert slow.found.startswith("1, round trip 50.0 ms")
    assert slow.advice.startswith("sysctl -w net.ipv4.tcp_slow_start_after_idle=0")
    assert "at most 4,194,304 bytes; 10,000,000 fill this link" in send.found
    assert "sysctl -w net.ipv4.tcp_wmem='4096 16384 20000000'" in send.advice
    assert "100,000 fill this link" in receive.found


def test_a_far_cloud_with_settings_as_they_should_be(settings: Path) -> None:
    (settings / "tcp_slow_start_after_idle").write_text("0\n")
    (settings / "tcp_congestion_control").write_text("cubic\n")
    (settings / "tcp_wmem").write_text("4096\t16384\t40194304\n")
    assert set(verdicts(check_kernel(FAR, settings)).values()) == {"ok"}


def test_without_a_link_nothing_is_warned_of(settings: Path) -> None:
    findings = check_kernel(None, settings)
    assert set(verdicts(findings).values()) == {"skipped"}
    assert all("not known without the link" in finding.found for finding in findings)
    (settings / "tcp_slow_start_after_idle").write_text("0\n")
    assert verdicts(check_kernel(None, settings))["tcp_slow_start_after_idle"] == "ok"


def test_what_is_not_there_is_said(settings: Path) -> None:
    (settings / "tcp_wmem").unlink()
    (settings / "tcp_rmem").write_text("no numbers at all")
    found = verdicts(check_kernel(FAR, settings))
    assert (found["tcp_wmem"], found["tcp_rmem"]) == ("skipped", "skipped")
    (finding,) = check_kernel(FAR, settings / "nowhere")
    assert finding.verdict is Verdict.SKIPPED and "not Linux" in finding.found
