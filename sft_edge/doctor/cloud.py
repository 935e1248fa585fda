"""Whether a cloud is there, takes this edge, speaks its protocol, and has its time and room."""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc

from sft_common import PROTOCOL_VERSION, __version__
from sft_common.errors import printable
from sft_common.rpc.access import Access
from sft_common.rpc.greeting import MAX_CHARACTERS, Greeting
from sft_common.rpc.health import SERVING, health_of
from sft_edge.doctor.finding import Finding, ok, skipped, warning, wrong
from sft_edge.greeting import greet

FAR_SECONDS = 60.0
"""Clocks that are further apart are warned of: certificates and logs go by them."""

ASKED = 3
"""Times that the clock is asked for; the quickest answer counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Met:
    """A cloud that has greeted."""

    greeting: Greeting

    clock_ahead_seconds: float
    """How far its clock is ahead of this machine's."""

    clock_error_seconds: float
    """Half of the time that the answer took: it cannot be told better."""


def check_health(channel: grpc.Channel, access: Access) -> Finding:
    """Return whether what is reached is a cloud, and whether it serves; needs no token."""
    try:
        state = health_of(channel, access.connect_seconds)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return _no_health(error, access)
    if state == SERVING:
        return ok("health", "it serves")
    return wrong(
        "health",
        f"the cloud at {access.server} is {state}: it drains, or is being stopped",
        "wait until its owner has started it again; a training tries for --retry-for seconds",
    )


def _no_health(error: grpc.Call, access: Access) -> Finding:
    code = error.code()
    words = printable((error.details() or "")[:MAX_CHARACTERS]) or "no details"
    if code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND):
        return wrong(
            "health",
            f"a gRPC server, but no SFT cloud: {words} ({code.name})",
            "check host and port of --server; `sft-cloud serve` prints its own",
        )
    return wrong(
        "health",
        f"no answer within {access.connect_seconds:g} s: {words} ({code.name})",
        "look at the cloud's log, or give a longer --connect-timeout",
    )


def meet(channel: grpc.Channel, access: Access) -> Met:
    """Return what a cloud says of itself; raises as `greet`."""
    return min(
        (_meet_once(channel, access) for _ in range(ASKED)),
        key=lambda met: met.clock_error_seconds,
    )


def _meet_once(channel: grpc.Channel, access: Access) -> Met:
    begin, now = time.perf_counter(), time.time()
    greeting = greet(channel, access.connect_seconds)
    half = (time.perf_counter() - begin) / 2
    return Met(
        greeting=greeting,
        clock_ahead_seconds=greeting.clock_seconds - (now + half),
        clock_error_seconds=half,
    )


def check_login(access: Access) -> Finding:
    """Return how this edge showed who it is, to a cloud that greeted it."""
    shown = [
        name
        for name, given in (("a token", access.token), ("a certificate", access.certificate))
        if given
    ]
    return ok("login", f"the cloud lets this edge in; it showed {' and '.join(shown) or 'nothing'}")


def check_protocol(met: Met) -> Finding:
    """Return whether both sides speak the same version."""
    greeting = met.greeting
    found = (
        f"the cloud {greeting.software_version or 'without a version'} speaks version "
        f"{greeting.protocol_version}, this edge {__version__} version {PROTOCOL_VERSION}"
    )
    if greeting.protocol_version == PROTOCOL_VERSION:
        return ok("protocol", found)
    return wrong("protocol", found, "install the same version of sft on both sides")


def check_clock(met: Met) -> Finding:
    """Return how far the clocks are apart."""
    ahead = met.clock_ahead_seconds
    found = (
        f"the cloud's is {abs(ahead):,.2f} s {'ahead of' if ahead > 0 else 'behind'} this "
        f"machine's, give or take {met.clock_error_seconds:.2f} s"
    )
    if abs(ahead) - met.clock_error_seconds <= FAR_SECONDS:
        return ok("clock", found)
    return warning(
        "clock", found, "have both set their clocks by NTP; certificates are judged by them"
    )


def check_room(met: Met) -> Finding:
    """Return whether the cloud has room for one more session."""
    greeting = met.greeting
    if greeting.draining:
        return skipped("room", "the cloud drains and takes no session")
    found = (
        f"{greeting.free_places} more sessions, {greeting.free_memory_bytes / 1e9:,.2f} GB of "
        f"{greeting.device}; messages up to {greeting.max_message_bytes / 2**20:g} MiB; it keeps "
        f"{'snapshots' if greeting.snapshots else 'no snapshots'}"
    )
    if not greeting.free_places:
        return warning(
            "room", found, "sft-edge train --wait SECONDS waits, if all of them are at work"
        )
    return ok("room", found)
