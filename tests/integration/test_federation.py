"""Federations with a real cloud and real clients, beside their definitions in one process.

The definitions are written apart from the project's own: stock models, a loop over clients, a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sft_common.config import ModelIdentity
from sft_common.federation.plan import FederationPlan
from sft_common.model.joined import load_joined
from sft_common.model.loading import Pretrained
from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.table import TASKS
from sft_edge.tasks.texts import classified, tokenized
from tests.federated import (
    average_file,
    history,
    joined,
    metrics,
    newest,
    records,
    write_clients,
    write_file,
)
from tests.processes import Cloud, running_cloud
from tests.reference import cut_model

SIZES = {"a": 12, "b": 7, "c": 20}
ROUNDS, EPOCHS, BATCH, RATE = 3, 2, 4, 1e-3
LAYER, RANK = 3, 4

Batches = list[tuple[dict[str, Tensor], list[int]]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clients(tmp_path_factory.mktemp("data"), SIZES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("federations")


@pytest.fixture(scope="module")
def cloud(place: Path, tiny_model: Path) -> Iterator[Cloud]:
    cut = {"cut": "sft", "split_layer": LAYER, "rank": RANK}
    files = [
        write_file(place / "fedavg.toml", tiny_model),
        write_file(place / "splitfed.toml", tiny_model, method="splitfed", cut=cut),
        write_file(place / "splitfed-shared.toml", tiny_model, method="splitfed-shared", cut=cut),
    ]
    line = [argument for file in files for argument in ("--federation", file)]
    with running_cloud(place / "cloud", *line, "--save-dir", place / "sessions") as running:
        yield running


@pytest.fixture(scope="module")
def run(
    place: Path, cloud: Cloud, data: dict[str, Path], tiny_model: Path
) -> Callable[[str], dict[str, str]]:
    """Runs the federation of a method to its end, once; returns what its clients said."""
    known: dict[str, dict[str, str]] = {}

    def once(method: str) -> dict[str, str]:
        if method not in known:
            clients = joined(place / method, cloud.server, method, data, "--model", tiny_model)
            known[method] = {name: program.said() for name, program in clients.items()}
        return known[method]

    return once


def seeds(round: int, client: str) -> int:
    """Return the seed of a client's round, all tries being the first."""
    known = FederationPlan(
        name="f", method="fedavg", model=ModelIdentity(name="m"), labels=("a", "b"), rounds=3
    )
    return known.seed_of(round, round, client)


def batches_of(folder: Path, model: Path, round: int, client: str) -> Iterator[Any]:
    task = TASKS["text-classification"].with_labels(("bad", "good"))
    rows = read_rows_of(task, folder, train_limit=None, eval_limit=None)
    tokenizer = AutoTokenizer.from_pretrained(model)
    examples = tokenized(classified(task, rows.train), tokenizer, 64)
    for epoch in range(EPOCHS):
        yield from examples.shuffled(BATCH, seed=seeds(round, client), epoch=epoch)


def whole_model(folder: Path) -> nn.Module:
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    head = Pretrained(folder, num_labels=2).whole(seed=0).classifier.state_dict()
    model.classifier.load_state_dict(head)
    stock: nn.Module = model
    return stock


def split_model(folder: Path) -> nn.Module:
    head = Pretrained(folder, num_labels=2).whole(seed=0).classifier.state_dict()
    named = {f"classifier.{name}": tensor for name, tensor in head.items()}
    return cut_model(folder, split_layer=LAYER, rank=RANK, num_labels=2, head=named)


def train(model: nn.Module, batches: Iterator[Any]) -> None:
    """AdamW anew, as in the released code: matrices decay."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, eps=1e-8, fused=True)
    for batch in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(**batch.inputs).logits, torch.tensor(batch.labels))
        loss.backward()
        optimizer.step()


def numbers(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@torch.no_grad()
def put(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.copy_(values[name])


def mean(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    total = sum(SIZES[client] for client in parts)
    names = next(iter(parts.values()))
    return {
        name: sum(part[name].double() * SIZES[client] for client, part in parts.items()).div(total)  # type: ignore[union-attr]
        for name in names
    }


def all_averaged(model: nn.Module, folder: Path, data: dict[str, Path]) -> dict[str, Tensor]:
    """FedAvg; and SplitFed, whose halves train as the whole would (SFT, Algorithm 1)."""
    average = numbers(model)
    for round in range(1, ROUNDS + 1):
        parts = {}
        for client in SIZES:
            put(model, average)
            train(model, batches_of(data[client], folder, round, client))
            parts[client] = numbers(model)
        average = mean(parts)
    return average


def in_turns(
    model: nn.Module, folder: Path, data: dict[str, Path], turns: list[list[str]]
) -> dict[str, Tensor]:
    """SplitFed V2: net2 goes from client to client, net1 is averaged."""
    average = numbers(model)
    for round, clients in enumerate(turns, start=1):
        parts = {}
        for client in clients:
            put(model, {name: value for name, value in average.items() if on_edge(name)})
            train(model, batches_of(data[client], folder, round, client))
            parts[client] = numbers(model)
            average |= {n: value for n, value in parts[client].items() if not on_edge(n)}
        average |= {name: value for name, value in mean(parts).items() if on_edge(name)}
    return average


def on_edge(name: str) -> bool:
    """Return whether net1 has a parameter of `cut_model`."""
    block = f"bert.encoder.layer.{LAYER - 1}."
    below = [f"bert.encoder.layer.{at}." for at in range(LAYER - 1)]
    edge = ("bert.embeddings.", *below, f"{block}attention.", f"{block}u")
    return name.startswith(edge)


def of_halves(place: Path, method: str) -> dict[str, Tensor]:
    """Return the last averages of both halves, by the names of `cut_model`."""
    saved = newest(place / "sessions", method)
    found = {**load_file(saved / "clients.safetensors"), **load_file(saved / "cloud.safetensors")}
    block = f"bert.encoder.layer.{LAYER - 1}"
    names = {f"{block}.cut.{part}": f"{block}.{part}" for part in ("u", "sigma", "v")}
    names[f"{block}.intermediate.dense.bias"] = f"{block}.bias"
    return {names.get(name, name): tensor for name, tensor in found.items()}


def check_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        apart = (found[name].double() - tensor.double()).abs().max().item()
        assert apart <= 1e-6, f"{name} is {apart} apart"


@pytest.mark.usefixtures("one_thread")
def test_fedavg_is_its_definition_after_three_rounds(
    run: Callable[[str], Any], place: Path, tiny_model: Path, data: dict[str, Path]
) -> None:
    run("fedavg")
    found = load_file(average_file(place / "fedavg", "fedavg", "a"))
    check_equal(found, all_averaged(whole_model(tiny_model), tiny_model, data))
    begun = numbers(whole_model(tiny_model))
    moved = max((found[name] - begun[name]).abs().max().item() for name in found)
    assert moved > 1e-3, "it has learned something"


@pytest.mark.usefixtures("one_thread")
def test_splitfed_is_its_definition_after_three_rounds(
    run: Callable[[str], Any], place: Path, tiny_model: Path, data: dict[str, Path]
) -> None:
    run("splitfed")
    expected = all_averaged(split_model(tiny_model), tiny_model, data)
    check_equal(of_halves(place, "splitfed"), expected)
    ours = load_file(average_file(place / "splitfed", "splitfed", "b"))
    assert all(on_edge(name.replace(".cut.u", ".u")) for name in ours)


@pytest.mark.usefixtures("one_thread")
def test_splitfed_with_one_net2_is_its_definition_after_three_rounds(
    run: Callable[[str], Any], place: Path, tiny_model: Path, data: dict[str, Path]
) -> None:
    run("splitfed-shared")
    turns = turns_of(place, "splitfed-shared")
    assert [sorted(each) for each in turns] == [sorted(SIZES)] * ROUNDS
    expected = in_turns(split_model(tiny_model), tiny_model, data, turns)
    check_equal(of_halves(place, "splitfed-shared"), expected)


def test_the_cloud_keeps_a_model_that_can_be_used(
    run: Callable[[str], Any], place: Path, tiny_model: Path
) -> None:
    """What FedAvg trained is a stock model, with its tokenizer; of cut halves it is both."""
    for method in ("fedavg", "splitfed"):
        run(method)
    folder = place / "sessions" / "federations" / "fedavg" / "model"
    stock = AutoModelForSequenceClassification.from_pretrained(folder)
    assert stock.config.id2label == {0: "bad", 1: "good"}
    expected = load_file(average_file(place / "fedavg", "fedavg", "a"))
    check_equal(numbers(stock), expected)
    inputs = AutoTokenizer.from_pretrained(folder)(["the room was lovely"], return_tensors="pt")
    joined_model = load_joined(place / "sessions" / "federations" / "splitfed" / "model")
    with torch.no_grad():
        assert joined_model(**inputs).shape == stock(**inputs).logits.shape == (1, 2)
    cut = split_model(tiny_model).eval()
    put(cut, of_halves(place, "splitfed"))
    with torch.no_grad():
        apart = (cut(**inputs).logits - joined_model(**inputs)).abs().max().item()
    assert apart <= 1e-6


def turns_of(place: Path, method: str) -> list[list[str]]:
    tried = records(place / "sessions", method)
    return [record["sampled"] for record in tried if record["duty"] == "train"]


@pytest.mark.parametrize("method", ["fedavg", "splitfed", "splitfed-shared"])
def test_what_clients_say_and_leave(
    run: Callable[[str], dict[str, str]], place: Path, method: str
) -> None:
    said = run(method)["b"]
    assert "client b has 7 examples" in said and "round 3, " in said and "handed in" in said
    known = metrics(place / method, method, "b")
    assert (known["rounds"], known["of_rounds"], known["examples"]) == (3, 3, 7)
    assert known["metric"]["name"] == "accuracy" and 0 <= known["metric"]["value"] <= 1
    lines = history(place / method, method, "b")
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert all(line["taken"] for line in lines)
    looked = method != "splitfed-shared"  # in turns, nobody looks before the end
    assert [line["average"] is not None for line in lines] == [False, looked, looked, True]
    moved = {way: sum(line["bytes"][way] for line in lines) for way in ("up", "down")}
    assert moved["up"] <= known["bytes"]["up"] <= moved["up"] + 2000
    assert moved["down"] <= known["bytes"]["down"] <= moved["down"] + 2000
    assert known["peak_rss_bytes"] > 50e6


def test_prompts_train_on_more_clients_than_the_cloud_has_places(
    tmp_path: Path, tiny_model: Path, data: dict[str, Path]
) -> None:
    file = write_file(tmp_path / "prompts.toml", tiny_model, method="sfprompt", rounds=1)
    line = ("--federation", file, "--max-sessions", 1)
    with running_cloud(tmp_path / "cloud", *line) as cloud:
        clients = joined(
            tmp_path, cloud.server, "prompts", data, "--model", tiny_model, "--retry-pause", 0.5
        )
        for program in clients.values():
            program.said()
    for client in SIZES:
        lines = history(tmp_path, "prompts", client)
        assert [line["round"] for line in lines if line["taken"]] == [1, 2]
