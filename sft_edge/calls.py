"""What an edge asks a cloud outside a session: how a training goes, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from sft_common.errors import ProtocolError, UnreachableError
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_common.rpc.access import Access
from sft_common.rpc.status import error_of
from sft_common.wire.codec import tensor_from_proto
from sft_edge.channel import connect
from sft_edge.remote import Finished, Judged, Stepped, TrainingEvent
from sft_edge.traffic import Traffic


def follow_training(
    access: Access, session_id: str, traffic: Traffic, seen: int = 0
) -> Iterator[TrainingEvent]:
    """Yield the events of a training that the cloud runs alone.

    Args:
        access: to the cloud.
        session_id: whose training it is.
        traffic: counts the messages.
        seen: events to leave out.

    Raises:
        UnreachableError: nobody answers, or the connection was lost; the training goes on.
        SftError: what the training ended with.
    """
    channel = connect(access)
    stub = pb_grpc.SplitTrainingServiceStub(channel)
    try:
        call = stub.Follow(pb.FollowRequest(session_id=session_id, from_event=seen))
        for response in _patiently(call, access.reply_seconds):
            traffic.received(response.ByteSize())
            yield _event(response)
    except grpc.RpcError as error:
        raise error_of(error) from error
    finally:
        channel.close()


def _patiently(call: Any, seconds: float) -> Iterator[Any]:
    """Yield what a call brings, but end it if nothing comes for so long.

    Raises:
        UnreachableError: nothing came.
    """
    silent = threading.Event()

    def give_up() -> None:
        silent.set()
        call.cancel()

    while True:
        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            came = next(call)
        except StopIteration:
            return
        except grpc.RpcError as error:
            if silent.is_set():
                raise UnreachableError(f"nothing came from the cloud for {seconds:g} s") from error
            raise
        finally:
            timer.cancel()
        yield came


def _event(response: pb.FollowResponse) -> TrainingEvent:
    match response.WhichOneof("event"):
        case "stepped":
            stepped = response.stepped
            return Stepped(stepped.step, stepped.epoch, stepped.loss, stepped.learning_rate)
        case "judged":
            judged = response.judged
            if len(judged.logits.shape) > 2:
                raise ProtocolError(
                    f"logits have {len(judged.logits.shape)} dimensions, at most 2 were expected"
                )
            verdict = tensor_from_proto(judged.logits, tuple(judged.logits.shape), "logits")
            return Judged(judged.step, judged.part, verdict)
        case "finished":
            finished = response.finished
            return Finished(finished.steps, finished.saved, finished.cloud_seconds)
        case other:
            raise ProtocolError(f"the cloud told of {other}, which this edge does not know")


def fetch_trained(access: Access, session_id: str, target: Path) -> None:
    """Write the trained net2 of a finished session to a file, as safetensors.

    Raises:
        ForbiddenError: the cloud does not hand it out.
        UnreachableError: nobody answers, or the connection was lost.
        ProtocolError: less came than was announced.
        OSError: the disk does not take it.
    """
    channel = connect(access)
    received = total = 0
    try:
        with open(target, "wb") as file:
            stub = pb_grpc.SplitTrainingServiceStub(channel)
            call = stub.Export(pb.ExportRequest(session_id=session_id))
            for piece in _patiently(call, access.reply_seconds):
                total = total or piece.total_bytes
                received += file.write(piece.data)
                if received > total:
                    raise ProtocolError(f"the cloud sent more than the {total:,} bytes announced")
    except grpc.RpcError as error:
        raise error_of(error) from error
    finally:
        channel.close()
    if received != total or not total:
        raise ProtocolError(f"the cloud sent {received:,} of {total:,} bytes of its half")
