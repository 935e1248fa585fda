"""The relay that stands for a link: everything arrives, in order, and is counted."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from benchmarks.link import LINKS, Link, linked

UP, DOWN = bytes(range(256)) * 400, b"answer" * 10_000


@pytest.mark.parametrize("link", [LINKS[0], LINKS[1], Link("", 30, 50)])
def test_both_directions_carry_everything_in_order(link: Link) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    received = bytearray()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            while len(received) < len(UP):
                received.extend(connection.recv(65536))
            connection.sendall(DOWN)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with listener, linked(link, listener.getsockname()[1]) as carried:
        with socket.create_connection(("127.0.0.1", carried.port)) as near:
            near.sendall(UP)
            got = bytearray()
            while data := near.recv(65536):
                got.extend(data)
        thread.join(30)
    assert (bytes(received), bytes(got)) == (UP, DOWN)
    assert (carried.up, carried.down) == (len(UP), len(DOWN))


def test_nothing_comes_before_its_time_and_nobody_gets_far_ahead() -> None:
    """Only lower bounds: a busy machine is slower, never faster."""
    link = Link("", 200, 1)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, linked(link, listener.getsockname()[1]) as carried:
        near = socket.create_connection(("127.0.0.1", carried.port))
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        far, _ = listener.accept()
        begin = time.monotonic()
        with near, far:
            near.sendall(b"x" * 25_000)
            got = 0
            while got < 25_000:
                got += len(far.recv(65536))
            assert time.monotonic() - begin >= 0.1 + 25_000 * 8 / 1e6
            near.settimeout(0.3)
            with pytest.raises(TimeoutError):
                near.sendall(b"x" * 2_000_000)


def test_where_nobody_listens_the_connection_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with linked(LINKS[0], port) as carried:
        with socket.create_connection(("127.0.0.1", carried.port), timeout=30) as near:
            assert near.recv(1) == b""
