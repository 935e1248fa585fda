"""The relay that stands for a link: everything arrives, in order, and is counted."""

from __future__ import annotations

import socket
import threading

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
