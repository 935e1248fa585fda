"""Numbers as people read them: bytes, seconds, counts. It knows no page."""

from __future__ import annotations

_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def bytes_unit(most: float) -> tuple[float, str]:
    """Return a unit in bytes, and its name, in which an axis up to `most` goes to ten or more."""
    return next(((unit, name) for unit, name in _UNITS if most >= 10 * unit), (1.0, "B"))


def bytes_said(count: float) -> str:
    """Return a number of bytes with its unit, powers of a thousand."""
    for unit, name in _UNITS:
        if abs(count) >= unit:
            return f"{_three(count / unit)} {name}"
    return f"{count:.0f} B"


def seconds_said(seconds: float) -> str:
    """Return a time with its unit: from microseconds to hours."""
    if abs(seconds) < 1e-3:
        return f"{_three(seconds * 1e6)} µs" if seconds else "0 s"
    if abs(seconds) < 1:
        return f"{_three(seconds * 1e3)} ms"
    if abs(seconds) < 120:
        return f"{_three(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def fewer_said(factor: float) -> str:
    """Return how many times fewer something is, or more if the factor is below 1."""
    return f"{_three(factor)} × fewer" if factor >= 1 else f"{_three(1 / factor)} × more"


def count_said(count: float) -> str:
    """Return a whole number with its thousands apart, another one short."""
    return f"{count:,.0f}" if count == round(count) and abs(count) < 1e15 else f"{count:.6g}"


def place_said(at: float) -> str:
    """Return a place on a horizontal axis: a step is a whole number, bytes in a unit are none."""
    return f"{at:.0f}" if at == round(at) else f"{at:.4g}"


def _three(number: float) -> str:
    """Return a number with three digits, or all of its whole ones."""
    size = abs(number)
    if size >= 1e6:
        return f"{number:.3g}"
    behind = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{number:,.{behind}f}"
