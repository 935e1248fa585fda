"""Bytes and seconds as the owner's tables show them."""

from __future__ import annotations


def amount(size: float) -> str:
    """Return a number of bytes as people read it; "-" for none."""
    if not size:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def span(seconds: float) -> str:
    """Return a time as people read it, in the largest unit of which there is one."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
