"""What a measured link means for a training at the defaults."""

from __future__ import annotations

from sft_edge.doctor.finding import Finding, ok, warning
from sft_edge.link import Link
from sft_edge.traffic import framed_bytes

EXAMPLES, TOKENS, TOKEN_BYTES = 32, 13, 10
"""Of a step at the defaults: a batch of mean SST-2 sentences, rank 16 in 4 bits with a scale."""

STEP_BYTES = framed_bytes(EXAMPLES * TOKENS * TOKEN_BYTES)
"""Each way, without lengths and labels, which are some dozens."""

MUCH_SECONDS = 0.1
"""A step that is on the way for so long is worth a word."""


def check_link(link: Link) -> Finding:
    """Return what a link does to a step."""
    seconds = link.seconds(STEP_BYTES, STEP_BYTES)
    found = (
        f"round trip {1e3 * link.round_trip_seconds:.1f} ms, up {_mbit(link.up_bytes_per_second)}, "
        f"down {_mbit(link.down_bytes_per_second)} Mbit/s; a step at the defaults ({EXAMPLES} x "
        f"{TOKENS} tokens x {TOKEN_BYTES} bytes, {STEP_BYTES / 1e3:.1f} kB each way) is "
        f"{1e3 * seconds:.1f} ms on the way"
    )
    if seconds <= MUCH_SECONDS:
        return ok("link", found)
    return warning(
        "link",
        found,
        "larger --batch-size takes fewer round trips, --edge frozen sends every example once",
    )


def _mbit(bytes_per_second: float) -> str:
    return f"{8e-6 * bytes_per_second:,.1f}"
