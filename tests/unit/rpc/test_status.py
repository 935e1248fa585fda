"""Every error maps to one status and back."""

from __future__ import annotations

import tracemalloc

import grpc
import pytest

from sft_common import errors
from sft_common.errors import (
    AuthenticationError,
    ConfigError,
    InternalError,
    LimitError,
    MismatchError,
    SftError,
    UnreachableError,
)
from sft_common.rpc.status import STATUS_OF, error_of, status_of

ALL = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, SftError) and cls is not SftError
]


class FailedCall(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """A failed call as the client sees it."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: object = ()) -> None:
        self._parts = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> object:
        return self._parts[2]

    def initial_metadata(self) -> object:
        return ()

    def add_callback(self, callback: object) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0


def test_the_map_names_every_error() -> None:
    assert set(STATUS_OF) == set(ALL)
    assert len(ALL) == 16


@pytest.mark.parametrize("cls", ALL)
def test_an_error_survives_the_way_through_a_status(cls: type[SftError]) -> None:
    status = status_of(cls("rank 9 is outside 1..8"))
    assert status.code == STATUS_OF[cls]
    back = error_of(FailedCall(status.code, status.details, status.trailing_metadata))
    assert type(back) is cls
    assert str(back) == "rank 9 is outside 1..8"


def test_a_peers_own_words_are_cut_short() -> None:
    """GRPC drops a stream whose status is over 8 kB."""
    status = status_of(ConfigError("unknown cut " + "x" * 5_000_000 + " and more"))
    assert len(status.details) <= 1000
    assert status.details.startswith("unknown cut")


def test_a_peers_megabytes_of_words_are_not_gone_through() -> None:
    """It would take minutes, and memory that can be counted."""
    error = ConfigError("a b " * 5_000_000)
    tracemalloc.start()
    try:
        assert len(status_of(error).details) <= 1000
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_clouds_words_move_no_cursor() -> None:
    error = error_of(FailedCall(grpc.StatusCode.ABORTED, "gone\x1b[2J\nsft-edge: all is well"))
    assert str(error) == "gone\\x1b[2J\\nsft-edge: all is well (ABORTED)"


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnreachableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LimitError),
        (grpc.StatusCode.UNAUTHENTICATED, AuthenticationError),
        (grpc.StatusCode.UNIMPLEMENTED, MismatchError),
        (grpc.StatusCode.DATA_LOSS, InternalError),
    ],
)
def test_a_status_of_grpc_itself_is_understood(code: grpc.StatusCode, cls: type[SftError]) -> None:
    error = error_of(FailedCall(code, "some words"))
    assert type(error) is cls
    assert str(error) == f"some words ({code.name})"
