"""A model hub on loopback: as much of its HTTP interface as downloading a repository takes.

Small files come straight from `/{repo}/resolve/{revision}/{file}`; of safetensors that address only
tells the hash and redirects, under another host name, to `/cdn/{repo}/{file}`, which sends ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories: {"models/name": folder, "datasets/org/name": folder}."""

    daemon_threads = True

    def __init__(
        self, repositories: dict[str, Path], handler: type[HubHandler] | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), handler or HubHandler)
        self.repositories = repositories
        self.requests: list[str] = []
        """Method, address and body of every request, in order."""
        self.ranges: list[tuple[str, str]] = []
        """File name and Range of every request to the CDN."""
        self.sent: Counter[str] = Counter()
        """File name -> bytes of its content that were sent."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running_hub(repositories: dict[str, Path]) -> Iterator[Hub]:
    """Run a hub until the block ends."""
    with Hub(repositories) as hub, serving(hub):
        yield hub


@contextmanager
def serving(hub: Hub) -> Iterator[None]:
    """Answer requests until the block ends."""
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        hub.shutdown()
        thread.join()


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._answer(body=True, asked=self.rfile.read(length))

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def _answer(self, *, body: bool, asked: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append(f"{self.command} {self.path} {asked.decode()}".strip())
        if path.startswith("cdn/"):
            repo, _, file = path.removeprefix("cdn/").rpartition("/")
            self.server.ranges.append((file, self.headers.get("Range", "")))
            self._send_range(self.server.repositories[repo] / file, body)
        elif path.startswith("api/"):
            query = urlsplit(self.path).query.lower()
            self._send_json(self._api(path.removeprefix("api/"), query, asked), body)
        else:
            self._send_file(path, body)

    def _api(self, path: str, query: str, asked: bytes) -> Any:
        for name, folder in self.server.repositories.items():
            if not path.startswith(name):
                continue
            verb, _, rest = path.removeprefix(name).strip("/").partition("/")
            if verb in ("", "revision"):
                return _info(name, folder)
            if verb == "tree":
                return _tree(folder, rest.partition("/")[2], deep="recursive=true" in query)
            if verb == "paths-info":
                wanted = json.loads(asked)["paths"] if asked.startswith(b"{") else []
                return [_entry(folder, p) for p in _files(folder) if p in wanted]
        return None

    def _send_json(self, value: Any, body: bool) -> None:
        data = json.dumps(value).encode()
        self._send(404 if value is None else 200, data, {"Content-Type": "application/json"}, body)

    def _send_file(self, path: str, body: bool) -> None:
        name, _, rest = path.partition("/resolve/")
        name = name if name.startswith("datasets/") else f"models/{name}"
        folder = self.server.repositories.get(name)
        file = folder / rest.partition("/")[2] if folder else None
        if file is None or not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            return
        data = file.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if file.suffix == ".safetensors":
            port = self.server.server_address[1]
            headers["Location"] = f"http://localhost:{port}/cdn/{name}/{file.name}"
            self._send(302, b"moved", {**headers, **self._link(data)}, body)
        else:
            self._send(200, data, {**headers, "ETag": content_hash(data)}, body, file.name)

    def _link(self, data: bytes) -> dict[str, str]:
        """Return what a redirect tells about its target."""
        return {"X-Linked-Etag": content_hash(data), "X-Linked-Size": str(len(data))}

    def _send_range(self, file: Path, body: bool) -> None:
        data = file.read_bytes()
        headers = {"ETag": content_hash(data), "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None:
            self._send(200, data, headers, body, file.name)
        elif int(match[1]) >= len(data):
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, body)
        else:
            part = data[int(match[1]) : int(match[2]) + 1]
            told = f"bytes {match[1]}-{int(match[1]) + len(part) - 1}/{len(data)}"
            self._send(206, part, {**headers, "Content-Range": told}, body, file.name)

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], body: bool, file: str = ""
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._write(data, file)

    def _write(self, data: bytes, file: str) -> None:
        self.wfile.write(data)
        if file:
            self.server.sent[file] += len(data)


def content_hash(data: bytes) -> str:
    """Return the mark of a content, as an ETag."""
    return f'"{hashlib.sha256(data).hexdigest()}"'


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _info(name: str, folder: Path) -> dict[str, Any]:
    return {
        "id": name.partition("/")[2],
        "sha": COMMIT,
        "private": False,
        "downloads": 0,
        "tags": [],
        "siblings": [{"rfilename": file} for file in _files(folder)],
    }


def _tree(folder: Path, below: str, *, deep: bool) -> list[dict[str, Any]]:
    if deep:
        return [_entry(folder, file) for file in _files(folder) if file.startswith(below)]
    return [
        _entry(folder, str(path.relative_to(folder)))
        if path.is_file()
        else {"type": "directory", "path": str(path.relative_to(folder)), "oid": COMMIT, "size": 0}
        for path in sorted((folder / below).iterdir())
    ]


def _entry(folder: Path, file: str) -> dict[str, Any]:
    data = (folder / file).read_bytes()
    return {
        "type": "file",
        "path": file,
        "size": len(data),
        "oid": hashlib.sha1(data).hexdigest(),
    }
