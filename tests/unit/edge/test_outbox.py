"""Requests on their way out."""

from __future__ import annotations

import threading

import pytest

from sft_edge.outbox import Outbox

SECONDS = 60.0


def putting(outbox: Outbox, *requests: bytes) -> threading.Thread:
    def put() -> None:
        for request in requests:
            outbox.put(request)

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    return thread


def test_requests_leave_in_order_and_the_end_comes_behind_them() -> None:
    outbox = Outbox(100, SECONDS)
    for request in (b"a", b"b", b"c"):
        outbox.put(request)
    outbox.close()
    assert list(outbox) == [b"a", b"b", b"c"]
    assert list(outbox) == []


def test_who_is_faster_than_the_link_waits() -> None:
    outbox = Outbox(10, SECONDS)
    thread = putting(outbox, b"12345", b"67890", b"x")
    thread.join(0.2)
    assert thread.is_alive(), "10 bytes wait, the eleventh must not"
    assert next(outbox) == b"12345"
    thread.join(10)
    assert not thread.is_alive()
    outbox.close()
    assert list(outbox) == [b"67890", b"x"]


def test_a_request_larger_than_the_bound_goes_alone() -> None:
    outbox = Outbox(3, SECONDS)
    thread = putting(outbox, b"large one", b"x")
    thread.join(0.2)
    assert thread.is_alive()
    assert next(outbox) == b"large one"
    thread.join(10)
    assert next(outbox) == b"x"


def test_closing_frees_who_waits() -> None:
    outbox = Outbox(3, SECONDS)
    thread = putting(outbox, b"abc", b"def", b"ghi")
    thread.join(0.2)
    assert thread.is_alive()
    outbox.close()
    thread.join(10)
    assert not thread.is_alive()
    assert list(outbox) == [b"abc"]


def test_nobody_waits_for_ever() -> None:
    outbox = Outbox(3, 0.1)
    outbox.put(b"abc")
    with pytest.raises(TimeoutError):
        outbox.put(b"def")
    outbox.close()
    assert list(outbox) == [b"abc"]
