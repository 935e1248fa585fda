"""Nothing is unpickled or evaluated: not in the sources, and not when a pickle is fed."""

from __future__ import annotations

import argparse
import ast
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sft_cloud.store import Record, Store
from sft_common.config import ModelIdentity, SessionSpec, SplitSpec
from sft_common.errors import ConfigError, ModelError, ProtocolError, SftError, SnapshotError
from sft_common.model.loading import Pretrained
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.rpc.access import Access
from sft_common.snapshots import Snapshot, Snapshots, _digest, _digest_of_file
from sft_common.wire.framing import read
from sft_edge.trained import read_run

ROOT = Path(__file__).parents[2]

MODULES = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}

BUILTINS = {"__import__", "compile", "eval", "exec"}

LOADERS = {"np.load", "numpy.load", "pandas.read_pickle", "torch.load", "yaml.load"}

SPEC = SessionSpec(model=ModelIdentity(name="m"), split=SplitSpec(split_layer=2), num_labels=2)


def forbidden(tree: ast.AST) -> Iterator[str]:
    """Yield what a source uses that turns data into code."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (a.name for a in node.names if a.name.partition(".")[0] in MODULES)
            case ast.ImportFrom() if str(node.module).partition(".")[0] in MODULES:
                yield str(node.module)
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield name
            case ast.Attribute() if ast.unparse(node) in LOADERS:
                yield ast.unparse(node)
            case ast.keyword(arg="allow_pickle" | "trust_remote_code", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield ast.unparse(node)


def test_no_source_turns_data_into_code() -> None:
    packages = ("sft_common", "sft_edge", "sft_cloud", "benchmarks")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 100
    found = {
        f"{path.name}: {name}"
        for path in sources
        for name in forbidden(ast.parse(path.read_text()))
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "np.load('x', allow_pickle=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=yes)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(forbidden(ast.parse(source)))


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.target),)


@pytest.fixture(params=["plain", "oldest", "torch"])
def bomb(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file with a pickle; checks that it did not go off."""
    file, target = tmp_path / "bomb", tmp_path / "went-off"
    if request.param == "torch":
        torch.save({"w": Bomb(target)}, file)
    else:
        file.write_bytes(pickle.dumps(Bomb(target), protocol=0 if request.param == "oldest" else 4))
    yield file
    assert not target.exists()


def test_the_bomb_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "went-off")))
    assert (tmp_path / "went-off").is_dir()


def one_line(error: pytest.ExceptionInfo[SftError]) -> None:
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_as_a_snapshot(bomb: Path, tmp_path: Path) -> None:
    """One that is sealed like a right one: the digest is no secret."""
    snapshots = Snapshots(tmp_path / "snapshots")
    snapshots.write("step-00000001", Snapshot({}, {"weights": {"w": torch.ones(2)}}))
    folder = tmp_path / "snapshots" / "step-00000001"
    shutil.copy(bomb, folder / "weights.safetensors")
    with pytest.raises(SnapshotError, match="is damaged") as damaged:
        snapshots.read("step-00000001")
    sealed = json.loads((folder / "snapshot.json").read_text())
    sealed["content"]["files"]["weights"] = _digest_of_file(folder / "weights.safetensors")
    sealed["sha256"] = _digest(sealed["content"])
    (folder / "snapshot.json").write_text(json.dumps(sealed))
    with pytest.raises(SnapshotError, match="cannot be read") as unread:
        snapshots.read("step-00000001")
    one_line(damaged)
    one_line(unread)
    shutil.copy(bomb, folder / "snapshot.json")
    with pytest.raises(SnapshotError, match="cannot be read"):
        snapshots.read("step-00000001")


def test_as_a_trained_half_of_the_cloud(bomb: Path, tmp_path: Path) -> None:
    store, name = Store(tmp_path / "sessions"), "ab12" * 4
    folder = store.finish(Record(session=name, spec=SPEC, finished=True), {"w": torch.ones(2)})
    shutil.copy(bomb, folder / "cloud.safetensors")
    with pytest.raises(ConfigError, match=f"cannot read session {name}") as error:
        store.load(name, SPEC)
    one_line(error)
    shutil.copy(bomb, folder / "session.json")
    with pytest.raises(ConfigError, match=f"cannot read session {name}"):
        store.load(name, SPEC)


def test_as_a_trained_half_of_the_edge(bomb: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "job.json").write_text(json.dumps({"server": "127.0.0.1:1"}))
    shutil.copy(bomb, run / "edge.safetensors")
    options = argparse.Namespace(run=run, server="", model="")
    with pytest.raises(ConfigError, match=r"cannot read .*edge\.safetensors") as error:
        read_run(options, Access(server="127.0.0.1:1"))
    one_line(error)


def test_as_the_weights_of_a_model(bomb: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    shutil.copy(bomb, folder / "model.safetensors")
    with pytest.raises(ModelError) as damaged:
        Pretrained(folder, num_labels=2)
    one_line(damaged)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no weights: model\.safetensors is missing"):
        Pretrained(folder, num_labels=2)


def test_as_a_message(bomb: Path) -> None:
    for kind in (pb.TrainRequest, pb.TrainResponse):
        with pytest.raises(ProtocolError, match="cannot be read") as error:
            read(bomb.read_bytes(), kind)
        one_line(error)
