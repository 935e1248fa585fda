"""What Linux does to messages on a long link (docs/operations.md). It reads /proc/sys alone."""

from __future__ import annotations

from pathlib import Path

from sft_edge.doctor.finding import Finding, ok, skipped, warning
from sft_edge.link import Link

SETTINGS = Path("/proc/sys/net/ipv4")

LONG_SECONDS = 0.005
"""Round trips above this one are long: what the kernel does costs more than the programs."""

SPARE = 2
"""A buffer should hold so many times what is under way: the kernel counts its own records too."""


def check_kernel(link: Link | None, settings: Path = SETTINGS) -> list[Finding]:
    """Return what each setting does to a link.

    Args:
        link: as it was measured; None: it was not.
        settings: where the kernel shows its settings.
    """
    if not settings.is_dir():
        return [skipped("kernel", f"{settings} is not here: not Linux, or hidden from containers")]
    return [
        _slow_start(link, settings),
        _congestion(link, settings),
        _buffer("tcp_wmem", "send", link.up_bytes_per_second if link else 0.0, link, settings),
        _buffer("tcp_rmem", "receive", link.down_bytes_per_second if link else 0.0, link, settings),
    ]


def _read(settings: Path, name: str) -> list[str]:
    """Return the words of a setting; none if it is not there."""
    try:
        return (settings / name).read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def _absent(name: str, settings: Path) -> Finding:
    return skipped(name, f"{settings / name} is not to be read here")


def _is_long(link: Link) -> bool:
    return link.round_trip_seconds > LONG_SECONDS


def _trip(link: Link) -> str:
    return f"round trip {1e3 * link.round_trip_seconds:.1f} ms"


def _unknown(name: str, value: str) -> Finding:
    return skipped(name, f"{value}; whether that costs anything is not known without the link")


def _slow_start(link: Link | None, settings: Path) -> Finding:
    name = "tcp_slow_start_after_idle"
    if not (words := _read(settings, name)):
        return _absent(name, settings)
    if words[0] == "0":
        return ok(name, words[0])
    if link is None:
        return _unknown(name, words[0])
    found = f"{words[0]}, {_trip(link)}"
    if not _is_long(link):
        return ok(name, found)
    return warning(
        name,
        f"{found}: after each pause for computing a message begins slowly",
        f"sysctl -w net.ipv4.{name}=0 here, and on the cloud for what comes down",
    )


def _congestion(link: Link | None, settings: Path) -> Finding:
    name = "tcp_congestion_control"
    if not (words := _read(settings, name)):
        return _absent(name, settings)
    if not words[0].startswith("bbr"):
        return ok(name, words[0])
    if link is None:
        return _unknown(name, words[0])
    found = f"{words[0]}, {_trip(link)}"
    if not _is_long(link):
        return ok(name, found)
    return warning(
        name,
        f"{found}: may cost a second round trip where each message waits for an answer",
        f"compare with sysctl -w net.ipv4.{name}=cubic, here and on the cloud",
    )


def _buffer(name: str, way: str, rate: float, link: Link | None, settings: Path) -> Finding:
    """Compare the largest buffer of a connection with what is under way on a full link."""
    words = _read(settings, name)
    if len(words) != 3 or not words[2].isdigit():
        return _absent(name, settings)
    most = int(words[2])
    if link is None:
        return _unknown(name, f"at most {most:,} bytes")
    needed = int(SPARE * rate * link.round_trip_seconds)
    found = f"at most {most:,} bytes; {needed:,} fill this link"
    if most >= needed or not _is_long(link):
        return ok(name, found)
    low, usual = words[:2]
    return warning(
        name,
        f"{found}: a large message waits for more round trips than it must",
        f"sysctl -w net.ipv4.{name}='{low} {usual} {2 * needed}', the buffer to {way}",
    )
