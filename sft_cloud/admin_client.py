"""Asks a running cloud over its admin socket, as `sft-cloud status` and `sft-cloud sessions` do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from sft_cloud.admin_socket import check_own, fits, target_of
from sft_common.errors import InternalError, UnreachableError
from sft_common.pb.sft.v1 import operations_pb2 as pb
from sft_common.pb.sft.v1 import operations_pb2_grpc as pb_grpc

MAX_LIST_BYTES = 2**30


class AdminClient:
    """A running cloud, as its owner sees it.

    Args:
        channel: to its admin socket.
        path: of that, for people.
        seconds: to wait for an answer.
    """

    def __init__(self, channel: grpc.Channel, path: Path, seconds: float) -> None:
        self._stub: Any = pb_grpc.OperationsServiceStub(channel)
        self._path, self._seconds = path, seconds

    def status(self) -> pb.ServerStatusResponse:
        """Return how it is doing.

        Raises:
            UnreachableError: nobody answers.
        """
        answer: pb.ServerStatusResponse = self._ask("ServerStatus", pb.ServerStatusRequest())
        return answer

    def sessions(self) -> list[pb.SessionSummary]:
        """Return its sessions; raises as `status`."""
        answer: pb.ListSessionsResponse = self._ask("ListSessions", pb.ListSessionsRequest())
        return list(answer.sessions)

    def delete(self, session_id: str) -> bool:
        """Delete a session; returns whether there was one.

        Raises:
            UnreachableError: nobody answers.
            InternalError: its disk does not let go of it.
        """
        request = pb.DeleteSessionRequest(session_id=session_id)
        answer: pb.DeleteSessionResponse = self._ask("DeleteSession", request)
        return answer.deleted

    def federations(self) -> list[pb.FederationSummary]:
        """Return the federations that it leads, none of an older cloud; raises as `status`."""
        try:
            answer = self._ask("ListFederations", pb.ListFederationsRequest())
        except UnreachableError as error:
            if _code(error.__cause__) is grpc.StatusCode.UNIMPLEMENTED:
                return []
            raise
        return list(answer.federations)

    def _ask(self, name: str, request: object) -> Any:
        try:
            return getattr(self._stub, name)(request, timeout=self._seconds)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            if error.code() is grpc.StatusCode.INTERNAL:
                raise InternalError(f"the cloud cannot do it: {error.details()}") from error
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                silent = f"has not answered for {self._seconds:g} s; see --timeout"
                raise UnreachableError(f"the cloud at {self._path} {silent}") from error
            raise UnreachableError(
                f"no cloud answers at {self._path}; is `sft-cloud serve` running there?"
            ) from error


def _code(error: BaseException | None) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


@contextmanager
def admin_of(path: Path, seconds: float) -> Iterator[AdminClient]:
    """Yield a running cloud.

    Args:
        path: of its admin socket.
        seconds: to wait for an answer.

    Raises:
        UnreachableError: there is no such socket.
        ConfigError: it is another user's.
    """
    if not fits(path) or not path.is_socket():
        raise UnreachableError(
            f"no cloud runs there: {path} is no socket; give the --save-dir or the "
            "--admin-socket of a cloud on this machine"
        )
    check_own(path)
    options = [
        ("grpc.max_receive_message_length", MAX_LIST_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(target_of(path), options=options) as channel:
        yield AdminClient(channel, path, seconds)
