"""HTML and SVG as text in which everything foreign is escaped. It knows no page and no chart."""

from __future__ import annotations

import html

from sft_common.errors import printable

_EMPTY = frozenset({"meta", "link", "path", "line", "rect", "circle"})
"""Elements that have no end."""


class Markup(str):
    """Text that is markup already; every other text is escaped."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Return text as markup that shows it, whatever it holds; a Markup is returned as it is.

    What cannot be printed (control characters, lone surrogates, marks that turn the direction of
    writing) is spelled out.
    """
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text)))


def joined(*parts: str) -> Markup:
    """Return parts one behind the other."""
    return Markup("".join(escaped(part) for part in parts))


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: escaped unless they are markup.
        attributes: by name, with _ for -, and _ behind a name that Python has taken; those that
            are None are left out.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Markup(f"<{name}{said}>" if name in ("meta", "link") else f"<{name}{said}/>")
    return Markup(f"<{name}{said}>{joined(*children)}</{name}>")


def _value(value: str | float) -> str:
    return escaped(value) if isinstance(value, str) else place(value)


def place(number: float) -> str:
    """Return a coordinate with at most one digit behind the point."""
    return f"{number:.1f}".removesuffix(".0")
