"""A running cloud that does not answer its owner: a server of its own that is slow to delete."""

from __future__ import annotations

import json
import threading
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from sft_cloud.admin_socket import target_of
from sft_cloud.sessions_command import run_delete
from sft_cloud.status import run_status
from sft_common.errors import UnreachableError
from sft_common.pb.sft.v1 import operations_pb2 as pb
from sft_common.pb.sft.v1 import operations_pb2_grpc as pb_grpc

NAME = "ab" * 8


class Slow(pb_grpc.OperationsServiceServicer):
    def __init__(self) -> None:
        self.go_on = threading.Event()

    def ServerStatus(self, request: object, context: object) -> pb.ServerStatusResponse:
        return pb.ServerStatusResponse()

    def ListSessions(self, request: object, context: object) -> pb.ListSessionsResponse:
        return pb.ListSessionsResponse(sessions=[pb.SessionSummary(session_id=NAME)])

    def DeleteSession(self, request: object, context: object) -> pb.DeleteSessionResponse:
        self.go_on.wait(60)
        return pb.DeleteSessionResponse(deleted=True)


def test_an_older_cloud_has_no_federations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not know the question."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        pb_grpc.add_OperationsServiceServicer_to_server(Slow(), server)
        server.add_insecure_port(target_of(tmp_path / ".admin.sock"))
        server.start()
        options = Namespace(admin_socket=None, save_dir=tmp_path, timeout=20.0, once=True)
        run_status(Namespace(**vars(options), json=False))
        shown = capsys.readouterr().out
        assert NAME in shown and "federation" not in shown
        run_status(Namespace(**vars(options), json=True))
        assert json.loads(capsys.readouterr().out)["federations"] == []
        server.stop(None).wait()


def test_an_answer_is_waited_for_as_long_as_one_likes(tmp_path: Path) -> None:
    path, slow = tmp_path / ".admin.sock", Slow()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        pb_grpc.add_OperationsServiceServicer_to_server(slow, server)
        server.add_insecure_port(target_of(path))
        server.start()
        chosen = Namespace(sessions=[NAME], owner=None, older_than=None, yes=True)
        options = Namespace(**vars(chosen), admin_socket=None, save_dir=tmp_path, timeout=0.5)
        with pytest.raises(UnreachableError, match=r"has not answered for 0\.5 s; see --timeout"):
            run_delete(options)
        slow.go_on.set()
        options.timeout = 60.0
        run_delete(options)
        server.stop(None).wait()
