"""The `doctor` command: runs all checks in turn, shows them, and says how it ends."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

import grpc

from sft_common.errors import ConfigError, MismatchError, SftError
from sft_common.rpc.access import Access
from sft_common.rpc.trouble import Trouble
from sft_edge.channel import try_to_connect
from sft_edge.doctor.certificates import check_client_certificate, check_tls
from sft_edge.doctor.cloud import (
    Met,
    check_clock,
    check_health,
    check_login,
    check_protocol,
    check_room,
    meet,
)
from sft_edge.doctor.finding import Finding, Verdict, checked, ok, skipped, wrong
from sft_edge.doctor.here import check_device, check_memory
from sft_edge.doctor.kernel import check_kernel
from sft_edge.doctor.link import check_link
from sft_edge.doctor.versions import asked, check_versions
from sft_edge.link import Link, measure_over
from sft_edge.login import edge_access

OF_A_CLOUD = ("health", "login", "protocol", "clock", "room", "link")
"""Checks that need a connection."""


def run_doctor(options: argparse.Namespace) -> None:
    """Check with the options of `sft-edge doctor`; exits with 1 if something is wrong."""
    examination = Examination(options)
    findings = []
    for finding in examination.findings():
        findings.append(finding)
        if not options.json:
            print(finding.lines(), flush=True)
    bad = _count(findings, Verdict.WRONG)
    if options.json:
        print(json.dumps(_facts(examination, findings), indent=2))
    else:
        print(_summary(findings))
    sys.exit(1 if bad else 0)


class Examination:
    """All checks of one edge and its cloud, and what they measured.

    Args:
        options: of `sft-edge doctor`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.met: Met | None = None
        """What the cloud said of itself; None until it has, or if it did not."""
        self.link: Link | None = None
        """As it was measured; None until it was, or if it could not be."""

    def findings(self) -> Iterator[Finding]:
        """Yield what each check finds, as it does."""
        yield from self._here()
        try:
            access = edge_access(self._options, self._options.server)
            channel = try_to_connect(access)
        except ConfigError as error:
            yield wrong("options", str(error), "")
            yield from _unreached("the options do not say how to reach the cloud")
        else:
            yield from self._there(access, channel)
        yield from check_kernel(self.link)

    def _here(self) -> Iterator[Finding]:
        options = self._options
        try:
            yield from check_versions(asked())
        except Exception as error:
            yield skipped("versions", f"what is asked for is not to be read: {error}")
        yield checked("device", lambda: check_device(options.device))
        yield checked("memory", lambda: self._memory())

    def _memory(self) -> Finding:
        options = self._options
        return check_memory(options.device, options.model, options.connect_timeout)

    def _there(self, access: Access, channel: grpc.Channel | Trouble) -> Iterator[Finding]:
        if isinstance(channel, Trouble):
            tried = f"no cloud answers at {access.server}: tried for {access.connect_seconds:g} s"
            yield wrong("server", f"{tried} ({channel.why})", channel.advice)
        else:
            yield ok("server", f"{access.server} answers")
        yield checked("tls", lambda: check_tls(access))
        if certificate := access.certificate:
            yield checked("client certificate", lambda: check_client_certificate(certificate))
        if isinstance(channel, Trouble):
            yield from _unreached("no cloud is reached")
            return
        try:
            yield from self._connected(channel, access)
        finally:
            channel.close()

    def _connected(self, channel: grpc.Channel, access: Access) -> Iterator[Finding]:
        health = checked("health", lambda: check_health(channel, access))
        yield health
        try:
            self.met = met = meet(channel, access)
        except SftError as error:
            if isinstance(error, MismatchError) and health.verdict is Verdict.WRONG:
                yield from _unreached("no SFT cloud is reached", OF_A_CLOUD[1:])
                return
            yield wrong("login", str(error), "")
            yield from _unreached("the cloud did not greet", OF_A_CLOUD[2:])
            return
        yield checked("login", lambda: check_login(access))
        yield checked("protocol", lambda: check_protocol(met))
        yield checked("clock", lambda: check_clock(met))
        yield checked("room", lambda: check_room(met))
        yield checked("link", lambda: self._measured(channel, access))

    def _measured(self, channel: grpc.Channel, access: Access) -> Finding:
        self.link = measure_over(channel, access.connect_seconds)
        return check_link(self.link)


def _unreached(why: str, checks: tuple[str, ...] = OF_A_CLOUD) -> Iterator[Finding]:
    yield from (skipped(check, why) for check in checks)


def _count(findings: list[Finding], verdict: Verdict) -> int:
    return sum(finding.verdict is verdict for finding in findings)


def _summary(findings: list[Finding]) -> str:
    bad, poor = _count(findings, Verdict.WRONG), _count(findings, Verdict.WARNING)
    if not bad + poor:
        return "nothing is wrong"
    return f"{bad or 'nothing'} wrong, {poor} {'warning' if poor == 1 else 'warnings'}"


def _facts(examination: Examination, findings: list[Finding]) -> dict[str, Any]:
    """Return what --json prints."""
    return {
        "wrong": _count(findings, Verdict.WRONG),
        "warnings": _count(findings, Verdict.WARNING),
        "checks": [finding.facts() for finding in findings],
        "cloud": dataclasses.asdict(examination.met) if examination.met else None,
        "link": dataclasses.asdict(examination.link) if examination.link else None,
    }
