"""What pages of runs are made of: cards, tiles, legends, tables. It knows no run.

A page asks for nothing: its style is inside, there is no script, and a policy in its head has the
browser refuse both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files

from sft_common.report.charts import Curve, look_of
from sft_common.report.figures import place_said
from sft_common.report.markup import Markup, element, joined

MOST_ROWS = 40
"""Of the table below a chart."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, *parts: str) -> str:
    """Return a whole page."""
    style = Markup(files("sft_common.report").joinpath("page.css").read_text("utf-8"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", style),
    )
    body = element("body", element("main", *parts))
    return joined(Markup("<!DOCTYPE html>\n"), element("html", head, body, lang="en"), Markup("\n"))


def card(title: str, *parts: str | None, wide: bool = False) -> Markup:
    """Return a card; parts that are None are left out."""
    shown = (part for part in parts if part is not None)
    return element("section", element("h2", title), *shown, class_="card wide" if wide else "card")


def cards(found: Iterable[Markup | None]) -> Markup:
    """Return cards beside one another where there is room; those that are None are left out."""
    return element("div", *(one for one in found if one is not None), class_="cards")


def soft(text: str) -> Markup:
    """Return a remark."""
    return element("p", text, class_="soft")


def note(text: str) -> Markup:
    """Return what a reader should know first."""
    return element("p", text, class_="note", role="note")


def tiles(found: Iterable[tuple[str, str]]) -> Markup:
    """Return figures to see first: (figure, what it is)."""
    return element(
        "div",
        *(
            element(
                "div", element("b", figure), element("span", what, class_="soft"), class_="tile"
            )
            for figure, what in found
        ),
        class_="tiles",
    )


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Return what colours mean: (classes, name)."""
    return element(
        "ul",
        *(element("li", swatch(look), name) for look, name in entries),
        class_="legend",
    )


def swatch(look: str) -> Markup:
    """Return a patch of a colour."""
    return element("i", class_=f"swatch {look}")


def curve_legend(curves: Iterable[Curve]) -> Markup:
    """Return what the colours of curves mean."""
    return legend((look_of(curve), curve.name) for curve in curves if not curve.faint)


def pairs(rows: Iterable[tuple[str, str]]) -> Markup:
    """Return a table of names and values."""
    body = (
        element("tr", element("th", name, scope="row"), element("td", value))
        for name, value in rows
    )
    return element("table", element("tbody", *body), class_="pair")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], look: str) -> Markup:
    """Return a table whose first column names its rows; it scrolls in itself if it is wide."""
    top = element("tr", *(element("th", name, scope="col") for name in head))
    body = (
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])
        )
        for row in rows
    )
    drawn = element("table", element("thead", top), element("tbody", *body), class_=look)
    return element("div", drawn, class_="scroll", tabindex="0", role="region", aria_label="table")


def hidden(summary: str, *parts: str) -> Markup:
    """Return what is shown when it is asked for."""
    return element("details", element("summary", summary), *parts)


def curve_figures(x: str, curves: Sequence[Curve]) -> Markup:
    """Return the figures of curves, hidden: at most `MOST_ROWS` of them, spread evenly."""
    columns = [dict(curve.points) for curve in curves]
    places = sorted({at for column in columns for at in column})
    chosen = _spread(places)
    rows = (
        [place_said(at), *(f"{column[at]:.5g}" if at in column else "" for column in columns)]
        for at in chosen
    )
    some = "" if len(chosen) == len(places) else f" ({len(chosen)} of {len(places):,})"
    names = [x, *(curve.name for curve in curves)]
    return hidden(f"The figures{some}", table(names, rows, "figures"))


def _spread(places: Sequence[float]) -> list[float]:
    if len(places) <= MOST_ROWS:
        return list(places)
    last = len(places) - 1
    return [places[round(n * last / (MOST_ROWS - 1))] for n in range(MOST_ROWS)]
