"""Which federations benchmarks/federated.py runs. It starts nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.grid import Key
from sft_common.model.sources import DEMO_MODEL
from sft_edge.tasks.table import TASKS

CLIENTS = 10

BLOCKS = 6
"""Of both models."""

TAIL = BLOCKS - 1
"""The block at whose end SFPrompt's tail begins."""

IID = "iid"
SPLITS = (IID, "dirichlet 0.1", "dirichlet 1")
USUAL_SPLITS = SPLITS[:2]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """What is learned, of what size, how fast."""

    title: str

    task: str
    """As `sft-edge join --task` takes it."""

    labels: tuple[str, ...]

    examples: int
    """The first so many training examples, of all clients together."""

    rounds: int

    rates: Mapping[str, float]
    """Method -> learning rate."""

    epochs: int
    """Local ones of all methods; with SFPrompt those past the body."""

    ranks: tuple[int, int]
    """Of SFPrompt's two transfers, where they are coded."""

    model: str = ""
    """What `--model` takes; empty: the ViT that is made of scikit-learn's digits."""


TEXT_RATES = {"sfprompt": 1e-3, "splitfed": 2e-4, "splitfed-shared": 2e-4, "fedavg": 2e-4}

IMAGE_RATES = {"sfprompt": 3e-3, "splitfed": 1e-3, "splitfed-shared": 1e-3, "fedavg": 1e-3}

DATA_SETS = {
    "sst2": DataSet(
        title="SST-2",
        task="sst2",
        labels=TASKS["sst2"].labels,
        examples=1600,
        rounds=8,
        rates=TEXT_RATES,
        epochs=1,
        ranks=(64, 32),
        model=DEMO_MODEL,
    ),
    "mrpc": DataSet(
        title="MRPC",
        task="mrpc",
        labels=TASKS["mrpc"].labels,
        examples=800,
        rounds=8,
        rates=TEXT_RATES,
        epochs=1,
        ranks=(64, 32),
        model=DEMO_MODEL,
    ),
    "digits": DataSet(
        title="digits",
        task="image-classification",
        labels=tuple(str(number) for number in range(10)),
        examples=800,
        rounds=10,
        rates=IMAGE_RATES,
        epochs=5,
        ranks=(16, 8),
    ),
}

AS_PUBLISHED = "sfprompt as published"

METHODS: Mapping[str, str] = {
    AS_PUBLISHED: "sfprompt",
    "sfprompt": "sfprompt",
    "sfprompt + stream": "sfprompt",
    "splitfed": "splitfed",
    "splitfed-shared": "splitfed-shared",
    "fedavg": "fedavg",
}
"""How it is called here -> how a federation's file calls it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One federation: all that may change its outcome."""

    data: str
    """One of `DATA_SETS`."""

    split: str
    """How clients got their examples, one of `SPLITS`."""

    method: str
    """One of `METHODS`."""

    examples: int
    """Training examples of all clients together."""

    eval_examples: int | None
    """The first so many of the validation part; None: all."""

    rounds: int

    epochs: int
    """Local ones; with SFPrompt those past the body."""

    learning_rate: float

    tail: int | None
    """The block at whose end SFPrompt's tail begins; None with other methods."""

    seed: int
    """Of everything random: shards, fresh heads, who is drawn."""

    def key(self) -> Key:
        """Return what tells this run from all others."""
        return dataclasses.astuple(self)

    def label(self) -> str:
        """Return how a person reads it."""
        return f"{DATA_SETS[self.data].title} {self.split}: {self.method}"

    @property
    def alpha(self) -> float | None:
        """Return the parameter of Dirichlet's distribution; None for clients that are alike."""
        return None if self.split == IID else float(self.split.partition(" ")[2])


KEY_FIELDS = tuple(field.name for field in dataclasses.fields(Run))
"""Names of the parts of a `Key`."""


def key_of(line: Mapping[str, Any]) -> Key:
    """Return the key of the run that a line of results tells of.

    Raises:
        KeyError: it lacks a field.
    """
    return tuple(line[name] for name in KEY_FIELDS)


def planned(
    data: Iterable[str], splits: Sequence[str], methods: Sequence[str], **changes: Any
) -> list[Run]:
    """Return the runs, all methods of a data set and a split one after the other.

    Args:
        data: which, each in all splits before the next.
        splits: which.
        methods: which.
        changes: fields of `Run` that are not as usual; None leaves one as it is.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    return [
        _run(name, split, method, given) for name in data for split in splits for method in methods
    ]


def _run(name: str, split: str, method: str, given: Mapping[str, Any]) -> Run:
    about, kind = DATA_SETS[name], METHODS[method]
    usual: dict[str, Any] = {
        "examples": about.examples,
        "eval_examples": None,
        "rounds": about.rounds,
        "epochs": about.epochs,
        "learning_rate": about.rates[kind],
        "seed": 0,
    }
    if method == AS_PUBLISHED:
        usual |= {"tail": BLOCKS, "epochs": 10}
    known = {"tail": TAIL, **usual, **given}
    if kind != "sfprompt":
        known["tail"] = None
    return Run(data=name, split=split, method=method, **known)
