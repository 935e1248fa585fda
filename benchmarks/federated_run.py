"""Runs one federation: a cloud and ten clients on loopback; what it cost, what came of it.

Nothing is trained in this process. What it measures: bytes, operations and memory of the clients
(federated_tally.py), and of some averages the accuracy on the whole validation part
(federated_accuracy.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.accuracy_results import Line
from benchmarks.federated_accuracy import data_of, model_of, right_answers
from benchmarks.federated_clients import FLOPS_FILE
from benchmarks.federated_data import Material
from benchmarks.federated_file import federation_file, name_of
from benchmarks.federated_formula import published_bytes, sent_bytes, sizes_of
from benchmarks.federated_grid import DATA_SETS, KEY_FIELDS, Run
from benchmarks.federated_tally import tally
from benchmarks.programs import LocalCloud, command, last_line
from sft_cloud.federation.file import Written, read_federation
from sft_cloud.federation.keeping import HISTORY
from sft_cloud.federation.leading import FOLDER
from sft_cloud.federation.state import State
from sft_common import __version__
from sft_common.errors import SftError
from sft_common.model.sources import find_model
from sft_common.snapshots import FACTS, Snapshots
from sft_edge.tasks.data import TaskData

LOOK_SECONDS = 0.2
"""How often it looks for a new average; a cloud keeps the last two, and a round takes longer."""

CLOUD_THREADS = "2"

EVALUATED_BY_CLIENTS = 64
"""Examples on which the clients evaluate the last average, to see that they say the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where everything of one run lies."""

    folder: Path
    federation: str

    @property
    def file(self) -> Path:
        """The federation's file."""
        return self.folder / "federation.toml"

    @property
    def averages(self) -> Path:
        """Where the cloud writes them."""
        return self.folder / "cloud" / FOLDER / self.federation / "averages"

    @property
    def history(self) -> Path:
        """What the cloud writes of every try."""
        return self.averages.parent / HISTORY

    @property
    def kept(self) -> Path:
        """Where all of them stay."""
        return self.folder / "kept"

    def client(self, name: str) -> Path:
        """Return what a client leaves."""
        return self.folder / "runs" / f"{self.federation}-{name}"


def execute(run: Run, material: Material, machine: Mapping[str, Any]) -> Line:
    """Run a federation and return its line; if it fails, a line that says why."""
    head = dict(zip(KEY_FIELDS, run.key(), strict=True))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sft-federated-") as scratch:
        place = Place(folder=Path(scratch), federation=name_of(run))
        try:
            found = _federated(run, material, place)
        except SftError as error:
            found = {"error": str(error)}
    return {
        **head,
        **found,
        "seconds": round(time.perf_counter() - begin, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(machine),
        "versions": {"sft": __version__, "torch": version("torch")},
    }


def _federated(run: Run, material: Material, place: Place) -> Line:
    shards, model = material.shards(run), material.model(run)
    place.file.write_text(federation_file(run, model))
    begin = time.perf_counter()
    _run_all(run, shards, model, place)
    ran = time.perf_counter() - begin
    written = read_federation(place.file, lambda name, beside: find_model(name))
    task = DATA_SETS[run.data].task
    data = data_of(written, task, material.source(run), run.examples, run.eval_examples)
    averages = Averages(place.kept, place.history)
    costs = tally([place.client(name) for name in shards], averages.records)
    sizes = sizes_of(written, data.train.all_lengths(), averages.last())
    examples = costs["client_round"]["examples"]
    return {
        **_outcome(run, written, data, averages),
        **costs,
        "sizes": asdict(sizes),
        "formula": {
            "published": published_bytes(sizes, examples),
            "sent": sent_bytes(sizes, examples),
        },
        "federated_seconds": round(ran, 1),
    }


def _run_all(run: Run, shards: Mapping[str, Path], model: str, place: Place) -> None:
    """Run cloud and clients to the end.

    Raises:
        SftError: a client failed; says what it said last.
    """
    serve = ["env", f"OMP_NUM_THREADS={CLOUD_THREADS}"]
    serve += command("sft_cloud", "serve", "--cpu", "--grace", "1", "--federation", place.file)
    serve += ["--save-dir", str(place.folder / "cloud")]
    with LocalCloud(place.folder, serve) as cloud:
        job = _job(run, shards, model, place, cloud.address())
        line = [sys.executable, "-m", "benchmarks.federated_clients", str(job)]
        clients = subprocess.Popen(line, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            while clients.poll() is None:
                _keep_new(place)
                time.sleep(LOOK_SECONDS)
        finally:
            clients.terminate()
            clients.wait()
        _keep_new(place)
    if clients.returncode:
        raise SftError(f"a client failed: {_complaint(shards, place)}")


def _job(run: Run, shards: Mapping[str, Path], model: str, place: Place, server: str) -> Path:
    """Write what federated_clients.py is to do."""
    words = ["--federation", place.federation, "--server", server, "--quiet"]
    words += ["--task", DATA_SETS[run.data].task, "--model", model]
    words += ["--runs-dir", str(place.folder / "runs")]
    words += ["--eval-examples", str(run.eval_examples or EVALUATED_BY_CLIENTS)]
    clients = [
        {
            "words": [*words, "--client", name, "--data", str(data)],
            "flops": str(place.client(name) / FLOPS_FILE),
            "log": str(place.folder / f"{name}.log"),
        }
        for name, data in shards.items()
    ]
    job = place.folder / "job.json"
    job.write_text(json.dumps({"clients": clients}))
    return job


def _keep_new(place: Place) -> None:
    """Keep what the cloud has written before it forgets it: links, no copies."""
    for facts in place.averages.glob(f"[!.]*/{FACTS}"):
        kept = place.kept / facts.parent.name
        if not kept.exists():
            shutil.copytree(facts.parent, kept, copy_function=os.link)


def _complaint(clients: Mapping[str, Path], place: Place) -> str:
    logs = {name: place.folder / f"{name}.log" for name in clients}
    said = {name: last_line(log.read_text()) for name, log in logs.items() if log.exists()}
    return next((f"{name}: {line}" for name, line in said.items() if line), "none says why")


class Averages:
    """All averages of a federation, by the rounds that are in them.

    Args:
        folder: where they were kept.
        history: of all tries.
    """

    def __init__(self, folder: Path, history: Path) -> None:
        self._snapshots = Snapshots(folder)
        facts = {name: self._snapshots.facts(name) for name in self._snapshots.names()}
        self._names = {known["done"]: name for name, known in facts.items()}
        self.records: Sequence[dict[str, Any]] = [
            json.loads(line) for line in history.read_text("utf-8").splitlines()
        ]
        """What happened in each try."""

    def after(self, rounds: int) -> State:
        """Return the average after some rounds.

        Raises:
            SftError: the cloud had forgotten it before it was kept.
        """
        if rounds not in self._names:
            raise SftError(f"the average after round {rounds} was not kept in time")
        return State.of(self._snapshots.read(self._names[rounds]).tensors)

    def last(self) -> State:
        """Return the last average."""
        return self.after(max(self._names))


def looked_at(rounds: int) -> list[int]:
    """Return after which rounds an average is evaluated: 1, 2, 4, 8 and so on, and the last."""
    return [n for n in range(1, rounds + 1) if n & (n - 1) == 0 or n == rounds]


def _outcome(run: Run, written: Written, data: TaskData, averages: Averages) -> Line:
    """Return accuracies of averages, who was drawn, and what the clients found of the last one."""
    (part,) = data.validation.values()
    rounds, right = [], list[bool]()
    for number in looked_at(run.rounds):
        model = model_of(written, averages.after(number))
        right = right_answers(model, written.plan.head, part.data)
        rounds.append({"round": number, "accuracy": sum(right) / len(right)})
    labels = [part.data.batch([row]).labels[0] for row in range(len(part.data))]
    ending = next(r for r in reversed(averages.records) if r["duty"] == "evaluate")
    same = right[: run.eval_examples or EVALUATED_BY_CLIENTS]
    return {
        "accuracy": rounds[-1]["accuracy"],
        "accuracies": rounds,
        "examples_evaluated": len(right),
        "commonest_class": max(labels.count(label) for label in set(labels)) / len(labels),
        "clients_found": {
            "examples": len(same),
            "accuracy": ending["value"],
            "here": sum(same) / len(same),
        },
        "drawn": [r["sampled"] for r in averages.records if r["duty"] == "train"],
    }
