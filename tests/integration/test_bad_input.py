"""Bad input gets one clear line and a non-zero exit; nothing is left half-written.

Most cases run the command line in this process, for speed, with everything that it writes to the
terminal captured; what a bare process adds is seen by the last ones.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from sft_common import PROTOCOL_VERSION
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.pb.sft.v1 import split_training_pb2_grpc as pb_grpc
from sft_edge.cli import main
from sft_edge.stream import Stream
from tests.processes import Cloud, run, running_cloud, write_rows

ROWS = [{"sentence": "a lovely room", "label": 1}, {"sentence": "awful tea", "label": 0}]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def edge(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `sft-edge train` with changed options; returns the one line it fails with."""
    data = write_rows(tmp_path / "data", ROWS, ROWS)

    def attempt(server: str, **changes: object) -> str:
        options = {
            "task": "sst2",
            "model": tiny_model,
            "data": data,
            "cut": "sft",
            "rank": 4,
            "runs-dir": tmp_path / "runs",
            "server": server,
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        line = [part for name, value in options.items() for part in (f"--{name}", value)]
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["train", "--quiet", *map(str, line)])
        assert end.value.code == 1
        shown = capfd.readouterr()
        assert shown.out == ""
        (message,) = shown.err.splitlines()
        assert not any((tmp_path / "runs").glob("*"))
        assert message.startswith("sft-edge: ")
        return message

    return attempt


def test_an_unknown_task(edge: Callable[..., str]) -> None:
    message = edge("localhost:9", task="sst3")
    assert "unknown task 'sst3'; did you mean sst2? choose one of: demo, sst2" in message


def test_a_model_directory_without_weights(
    edge: Callable[..., str], tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "empty-model"
    folder.mkdir()
    (folder / "config.json").write_text((tiny_model / "config.json").read_text())
    assert "holds no weights: model.safetensors is missing" in edge("localhost:9", model=folder)
    absent = edge("localhost:9", model="/no/such/folder")
    assert "there is no model folder '/no/such/folder'" in absent


def test_a_model_that_only_the_hub_could_have(edge: Callable[..., str]) -> None:
    message = edge("localhost:9", model="bert-base-uncased")
    assert "'bert-base-uncased' is neither a folder nor to be had from the model hub" in message
    assert "give --model DIR" in message


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("split_layer", 0, "split layer 0 is outside 1..4"),
        ("split_layer", 5, "split layer 5 is outside 1..4"),
        ("rank", 0, "rank 0 is outside 1..32"),
        ("rank", 33, "rank 33 is outside 1..32"),
        ("cut", "slice", "unknown cut 'slice'; choose one of: sft, sft-output"),
        ("max_length", 65, "--max-length 65 is outside 3..64: tiny-bert takes 64 tokens"),
        ("max_length", 2, "--max-length 2 is outside 3..64: tiny-bert takes 64 tokens, of which 2"),
        ("device", "meta", "device 'meta' is not to be had on this machine: choose one of: cpu"),
        ("model", "~no-such-user/x", "there is no model folder '~no-such-user/x'"),
        ("model", "x" * 300, "File name too long"),
        ("name", "x" * 300, "no slashes, 1 to 200 characters"),
        ("device", "cuda:7", "device 'cuda:7' is not to be had on this machine"),
        ("device", "gpu", "device 'gpu' is not to be had on this machine"),
        ("name", "../up", "run name '../up' must be a plain folder name"),
    ],
)
def test_options_out_of_range(
    edge: Callable[..., str], option: str, value: object, text: str
) -> None:
    assert text in edge("localhost:9", **{option: value})


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"text": "x", "label": 0}', "train.jsonl:2: column 'sentence' is missing"),
        ('{"sentence": "x", "label": 0', "train.jsonl:2: not JSON"),
        ('{"sentence": "x", "label": 2}', "train.jsonl:2: label 2 is not a whole number in 0..1"),
    ],
)
def test_a_broken_row_is_named(
    edge: Callable[..., str], tmp_path: Path, line: str, text: str
) -> None:
    data = write_rows(tmp_path / "broken", ROWS, ROWS)
    (data / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    assert text in edge("localhost:9", data=data)


def test_an_empty_or_absent_file(edge: Callable[..., str], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "empty", ROWS, [])
    assert "validation.jsonl holds no rows" in edge("localhost:9", data=data)
    (data / "validation.jsonl").unlink()
    assert "has no file of the validation part" in edge("localhost:9", data=data)
    assert "there is no data folder" in edge("localhost:9", data=tmp_path / "absent")


def test_nobody_listens(edge: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    message = edge(f"127.0.0.1:{port}", connect_timeout=0.5)
    expected = f"no cloud answers at 127.0.0.1:{port}: tried for 0.5 s (Connection refused)"
    assert expected in message
    assert "is `sft-cloud serve` running there?" in message


def test_somebody_else_listens(edge: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        message = edge(f"127.0.0.1:{mute.getsockname()[1]}", connect_timeout=0.5)
    assert "something listens there, but it does not speak gRPC" in message
    with grpc_server(None) as port:
        assert "is not an SFT cloud" in edge(f"127.0.0.1:{port}")


def test_a_run_that_fails_at_its_first_step_frees_its_name(
    edge: Callable[..., str], cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"max_message_bytes": 500}
    monkeypatch.setattr(
        "sft_edge.lasting.Stream",
        lambda access, traffic, **how: Stream(access, traffic, **how | small),
    )
    assert "over the limit of 500; choose a smaller --batch-size" in edge(cloud.server, cut="none")


def test_a_cloud_of_another_protocol_version(edge: Callable[..., str]) -> None:
    """A newer cloud that lets an older edge in: the edge itself must notice."""
    with grpc_server(pb.Opened(protocol_version=PROTOCOL_VERSION + 1)) as port:
        message = edge(f"127.0.0.1:{port}")
    versions = f"protocol version {PROTOCOL_VERSION}, the cloud {PROTOCOL_VERSION + 1}"
    assert f"the edge speaks {versions}; update the edge" in message


def test_a_cloud_without_the_model(edge: Callable[..., str], tmp_path: Path) -> None:
    with running_cloud(tmp_path / "open", "--host", "0.0.0.0", "--insecure") as cloud:
        message = edge(cloud.server)
    assert "this cloud has no model folder named 'tiny-bert' (it has: none;" in message
    assert message.endswith("and takes no paths: not only this machine can reach it")


def test_a_bare_process_says_one_line_too(tmp_path: Path) -> None:
    done = run("sft-edge", "train", "--task", "demo", "--rank", 999, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sft-edge: rank 999 is outside 1..384: the model is 384 wide")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(tiny_model: Path, tmp_path: Path, cloud: Cloud) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    done = run(
        "sft-edge",
        *("train", "--task", "demo", "--server", cloud.server, "--name", "mine"),
        *("--runs-dir", tmp_path / "runs"),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "mine is there already; choose another --name" in done.stderr
    assert list((tmp_path / "runs" / "mine").iterdir()) == []


def test_the_cloud_says_what_is_wrong_with_its_options(cloud: Cloud, tmp_path: Path) -> None:
    for arguments, text in (
        (("--cpu", "--port", cloud.port), f"port {cloud.port} on 127.0.0.1 is in use"),
        (("--cpu", "--insecure", "--host", "192.0.2.1"), "cannot listen on 192.0.2.1:50051"),
        (
            ("--cpu", "--insecure", "--host", "no.such.host.invalid"),
            "cannot listen on no.such.host.invalid",
        ),
        (("--cpu", "--model", tmp_path / "absent"), "there is no such folder"),
        (
            ("--cpu", "--save-dir", "/proc/no/place"),
            "keep sessions in /proc/no/place: No such file",
        ),
        (("--cpu", "--port-file", "/no/such/port"), "--port-file /no/such/port: there is no such"),
        (("--gpu", 63), "GPU 63 was asked for, but torch"),
    ):
        done = run("sft-cloud", "serve", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        (message,) = done.stderr.splitlines()
        assert message.startswith("sft-cloud: ") and text in message


class OtherCloud(pb_grpc.SplitTrainingServiceServicer):
    """Answers every stream with one message."""

    def __init__(self, opened: pb.Opened) -> None:
        self._opened = opened

    def Train(
        self, request_iterator: Iterator[pb.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.TrainResponse]:
        next(request_iterator)
        yield pb.TrainResponse(opened=self._opened)


class grpc_server:
    """A gRPC server of another make on a free port; None: without the service."""

    def __init__(self, opened: pb.Opened | None) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        if opened is not None:
            servicer = OtherCloud(opened)
            pb_grpc.add_SplitTrainingServiceServicer_to_server(servicer, self._server)

    def __enter__(self) -> int:
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return int(port)

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
