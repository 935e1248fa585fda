"""A model hub on loopback that can misbehave while it sends ranges of files."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hub import COMMIT, Hub, HubHandler, serving

CHUNK = 16 * 1024


class RangeServer(Hub):
    """Serves folders as repositories of models: {"org/name": folder}."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__({f"models/{name}": at for name, at in repositories.items()}, _Handler)
        self.logins: list[tuple[str, str]] = []
        """Address and Authorization of every request that had one."""
        self.token = ""
        """What a request to the hub must bring along, if not empty."""
        self.breaks: list[int] = []
        """Bytes after which the next answers of the CDN break, one entry for each."""
        self.statuses: list[int] = []
        """What the next requests to the CDN are answered instead."""
        self.whole_files_only = False
        self.content_range: str | None = None
        """What the CDN claims to send, if not the truth."""
        self.marked = True
        """Whether the CDN tells versions apart by an ETag."""
        self.linked = True
        """Whether the hub's redirect tells the hash of the content."""
        self.stall_after: int | None = None
        """Bytes after which an answer waits until `released` is set."""
        self.stalled = threading.Event()
        self.released = threading.Event()

    def file_url(self, repo: str, file: str) -> str:
        return f"{self.url}/{repo}/resolve/{COMMIT}/{file}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed."""


@contextmanager
def running_range_server(repositories: dict[str, Path]) -> Iterator[RangeServer]:
    """Run a server until the block ends."""
    with RangeServer(repositories) as server, serving(server):
        try:
            yield server
        finally:
            server.released.set()


class _Handler(HubHandler):
    server: RangeServer

    def _answer(self, *, body: bool, asked: bytes = b"") -> None:
        login, token = self.headers.get("Authorization", ""), self.server.token
        if login:
            self.server.logins.append((self.path, login))
        if token and login != f"Bearer {token}" and not self.path.startswith("/cdn/"):
            self._send(401, b"", {}, body)
        else:
            super()._answer(body=body, asked=asked)

    def _link(self, data: bytes) -> dict[str, str]:
        return super()._link(data) if self.server.linked else {}

    def _send_range(self, file: Path, body: bool) -> None:
        assert "Range" not in self.headers or self.headers["Accept-Encoding"] == "identity"
        if self.server.statuses:
            self._send(self.server.statuses.pop(0), b"", {}, body)
            return
        if self.server.whole_files_only:
            del self.headers["Range"]
        super()._send_range(file, body)

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], body: bool, file: str = ""
    ) -> None:
        if not self.server.marked:
            headers = {name: value for name, value in headers.items() if name != "ETag"}
        if status == 206 and self.server.content_range is not None:
            headers = {**headers, "Content-Range": self.server.content_range}
        super()._send(status, data, headers, body, file)

    def _write(self, data: bytes, file: str) -> None:
        breaks_at = self.server.breaks.pop(0) if file and self.server.breaks else len(data)
        for begin in range(0, min(len(data), breaks_at), CHUNK):
            self._stall(begin if file else -1)
            super()._write(data[begin : min(begin + CHUNK, breaks_at)], file)
        if breaks_at < len(data):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _stall(self, at: int) -> None:
        if self.server.stall_after is not None and at >= self.server.stall_after:
            self.server.stalled.set()
            self.server.released.wait(60)
