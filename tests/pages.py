"""What pages are made of, and what no page may hold."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = "</title></style><script>alert(1)</script>\"'&<b onclick=x>\u202e\ud800"


class Elements(HTMLParser):
    """Collects the elements and the text of a page, and sees that every one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Elements:
    """Return what a page is made of; it asks for nothing and names nothing twice."""
    found = Elements()
    found.feed(page)
    assert found.open == []
    ids = [attributes["id"] for _, attributes in found.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in found.seen}
    for _, attributes in found.seen:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert attributes.get("href", "data:,") == "data:,"
    assert "nan" not in page.lower().replace("finance", "") and "http://" not in page
    page.encode("utf-8")
    return found


def pictures(found: Elements) -> int:
    """Return how many pictures a page has."""
    return sum(tag == "svg" for tag, _ in found.seen)
