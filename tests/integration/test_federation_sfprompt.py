"""SFPrompt with a real cloud and real clients, beside its definition in one process.

The definition is written apart from the project's surgery: a stock BERT whose blocks are given the
prompts and a mask by hand, a loop over clients, a mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from sft_common.config import ModelIdentity, SplitSpec
from sft_common.errors import ModelError
from sft_common.federation.plan import FederationPlan, Transfer
from sft_common.model.loading import Pretrained
from sft_common.model.parts_folder import load_parts
from sft_common.model.prompts import first_prompts
from sft_common.plan import epoch_order
from sft_edge.tasks.data import read_rows_of
from sft_edge.tasks.table import TASKS
from sft_edge.tasks.texts import classified, tokenized
from tests.federated import (
    all_said,
    average_file,
    history,
    join,
    joined,
    metrics,
    write_clients,
    write_file,
)
from tests.models import save_tiny_model
from tests.processes import Cloud, running_cloud, write_rows

SIZES = {"a": 12, "b": 7, "c": 20}
ROUNDS, EPOCHS, BATCH, RATE, KEEP, PROMPTS = 3, 2, 4, 1e-3, 0.4, 3
BLOCKS, SPLIT = 4, 2
BOTH = {"cut": "stream", "rank": 8, "encoding": "int8"}
CUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "coded": (BOTH, {**BOTH, "cut": "stream-end", "rank": 4, "split_layer": BLOCKS}),
    "factors": ({"cut": "sft", "rank": 4}, {"cut": "sft-output", "rank": 4, "split_layer": 3}),
    "deep": ({"cut": "svd-residual", "rank": 4}, {"cut": "none", "split_layer": 3}),
    "tail": ({"cut": "none"}, {**BOTH, "split_layer": 3}),
}
"""Federation -> its first and its second cut."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clients(tmp_path_factory.mktemp("data"), SIZES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sfprompt")


@pytest.fixture(scope="module")
def vit(place: Path) -> Path:
    folder = save_tiny_model(place / "tiny-vit", "vit", head="image-classification")
    size = {"height": 16, "width": 16}
    ViTImageProcessorPil(size=size, do_resize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(place: Path) -> dict[str, Path]:
    """Dark images and bright ones."""
    chance = np.random.default_rng(0)

    def row(bright: bool) -> dict[str, Any]:
        image = chance.integers(128 * bright, 128 + 127 * bright, (8, 8))
        return {"image": image.tolist(), "label": ("bad", "good")[bright]}

    def rows(count: int) -> list[Any]:
        return [row(n % 2 == 1) for n in range(count)]

    return {name: write_rows(place / f"images-{name}", rows(8), rows(4)) for name in "ab"}


@pytest.fixture(scope="module")
def cloud(place: Path, tiny_model: Path, vit: Path) -> Iterator[Cloud]:
    usual: dict[str, Any] = {"method": "sfprompt", "rounds": 1}
    usual["training"] = {"epochs": 1, "prompts": 2}
    local = {"epochs": EPOCHS, "keep": KEEP, "prompts": PROMPTS}
    last = {"split_layer": BLOCKS}
    known = {"method": "sfprompt", "training": local, "tail": last}
    files = [write_file(place / "plain.toml", tiny_model, **known)]
    for name, (cut, tail) in CUTS.items():
        file = place / f"{name}.toml"
        files.append(write_file(file, tiny_model, **usual, cut=cut, tail=tail))
    files.append(
        write_file(place / "halves.toml", tiny_model, method="splitfed", rounds=1, cut={**BOTH})
    )
    two = {"per_round": 2}
    for method in ("sfprompt", "fedavg"):
        more = usual if method == "sfprompt" else {"rounds": 1}
        known = {**more, "method": method, "kind": "image", "clients": two}
        files.append(write_file(place / f"vit-{method}.toml", vit, **known))
    line = [argument for file in files for argument in ("--federation", file)]
    line += ["--max-sessions", 40]
    with running_cloud(place / "cloud", *line, "--save-dir", place / "sessions") as running:
        yield running


@pytest.fixture(scope="module")
def run(
    place: Path, cloud: Cloud, data: dict[str, Path], tiny_model: Path
) -> Callable[[str], dict[str, Tensor]]:
    """Runs a federation to its end, once; returns the last average."""
    known: dict[str, dict[str, Tensor]] = {}

    def once(name: str) -> dict[str, Tensor]:
        if name not in known:
            clients = joined(place / name, cloud.server, name, data, "--model", tiny_model)
            all_said(list(clients.values()))
            known[name] = load_file(average_file(place / name, name, "a"))
        return known[name]

    return once


class Reference:
    """A stock BERT that takes soft prompts; the body can be left out.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        model.classifier.dropout = nn.Identity()
        head = Pretrained(folder, num_labels=2).whole(seed=0).classifier.state_dict()
        model.classifier.load_state_dict(head)
        model.requires_grad_(False)
        self.model, self.blocks = model, model.bert.encoder.layer
        self.prompts = nn.Parameter(first_prompts(PROMPTS, 32, 0))
        last = self.blocks[BLOCKS - 1].output.LayerNorm
        for module in (last, model.bert.pooler, model.classifier):
            module.requires_grad_(True)
        self._mask = self._stream = torch.empty(0)
        self._prompted = True
        self.blocks[0].register_forward_pre_hook(self._insert)
        for block in self.blocks[1:]:
            block.register_forward_pre_hook(lambda _, given: (given[0], self._mask, *given[2:]))
        self.blocks[SPLIT - 1].attention.register_forward_hook(self._look)

    def _insert(self, _: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = given[0]
        if self._prompted:
            both = [torch.cat([one[:1], self.prompts, one[1:]]) for one in hidden]
            hidden = torch.stack(both)
        return (hidden, self._mask, *given[2:])

    def _look(self, _: Any, __: Any, found: Any) -> None:
        self._stream = found[0]

    def whole(self, batch: Any, *, prompted: bool = True) -> Tensor:
        """Return the logits of the whole model."""
        self._prompted = prompted
        lengths = [length + prompted * PROMPTS for length in batch.lengths]
        longest = max(lengths)
        self._mask = torch.zeros(len(lengths), 1, longest, longest)
        for example, length in enumerate(lengths):
            self._mask[example, :, :, length:] = torch.finfo(torch.float32).min
        logits: Tensor = self.model(**batch.inputs).logits
        return logits

    def local(self, batch: Any, *, prompted: bool = True) -> Tensor:
        """Return the logits of head and tail alone."""
        self.whole(batch, prompted=prompted)
        stream = self.blocks[BLOCKS - 1].output.LayerNorm(self._stream[:, :1])
        logits: Tensor = self.model.classifier(self.model.bert.pooler(stream))
        return logits

    def trained(self) -> dict[str, Tensor]:
        named = self.model.named_parameters()
        return {"prompts": self.prompts} | {n: p for n, p in named if p.requires_grad}

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.trained().items():
            parameter.copy_(values[name])


def a_round(reference: Reference, train: Any, seed: int) -> None:
    """All of what a client does in a round (SFPrompt, Algorithm 1)."""
    optimizer = torch.optim.Adam(reference.trained().values(), lr=RATE, fused=True)

    def step(logits: Tensor, batch: Any) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, torch.tensor(batch.labels)).backward()
        optimizer.step()

    for epoch in range(EPOCHS):
        for batch in train.shuffled(BATCH, seed=seed, epoch=epoch):
            step(reference.local(batch), batch)
    scores = []
    with torch.no_grad():
        for batch in train.in_order(BATCH):
            shares = reference.local(batch, prompted=False).softmax(dim=1)
            for share, label in zip(shares, batch.labels, strict=True):
                wanted = torch.tensor([float(n == label) for n in range(2)])
                scores.append((share - wanted).norm().item())
    ranked = sorted(range(len(scores)), key=lambda at: -scores[at])
    kept = sorted(ranked[: math.ceil(KEEP * len(scores))])
    order = [kept[at] for at in epoch_order(len(kept), seed=seed, epoch=EPOCHS)]
    for start in range(0, len(order), BATCH):
        batch = train.batch(order[start : start + BATCH])
        step(reference.whole(batch), batch)


def seed_of(round: int, client: str) -> int:
    at = Transfer(split=SplitSpec(cut="none", split_layer=1))
    known = FederationPlan(
        name="f", method="sfprompt", model=ModelIdentity(name="m"), labels=("a", "b"),
        rounds=3, cut=at, tail=at,
    )  # fmt: skip
    return known.seed_of(round, round, client)


def simulated(model: Path, data: dict[str, Path]) -> dict[str, Tensor]:
    """Three rounds of all clients in this process."""
    reference, task = Reference(model), TASKS["text-classification"].with_labels(("bad", "good"))
    tokenizer, trains = AutoTokenizer.from_pretrained(model), {}
    for client, folder in data.items():
        rows = read_rows_of(task, folder, train_limit=None, eval_limit=None)
        trains[client] = tokenized(classified(task, rows.train), tokenizer, 64)
    average = {name: p.detach().clone() for name, p in reference.trained().items()}
    for round in range(1, ROUNDS + 1):
        sums = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in average.items()}
        for client, train in trains.items():
            reference.put(average)
            a_round(reference, train, seed_of(round, client))
            for name, p in reference.trained().items():
                sums[name] += p.detach().double() * SIZES[client]
        average = {name: (value / sum(SIZES.values())).float() for name, value in sums.items()}
    return average


@pytest.mark.usefixtures("one_thread")
def test_sfprompt_is_its_definition_after_three_rounds(
    run: Callable[[str], dict[str, Tensor]], tiny_model: Path, data: dict[str, Path]
) -> None:
    found, expected = run("plain"), simulated(tiny_model, data)
    assert found.keys() == expected.keys() and found["prompts"].shape == (PROMPTS, 32)
    for name, tensor in expected.items():
        apart = (found[name].double() - tensor.double()).abs().max().item()
        assert apart <= 1e-6, f"{name} is {apart} apart"
    begun = Reference(tiny_model).trained()
    moved = {name: (found[name] - begun[name]).abs().max().item() for name in found}
    assert min(moved.values()) > 1e-4, "all of it has learned something"


def test_what_clients_say_of_their_phases(run: Callable[[str], Any], place: Path) -> None:
    run("plain")
    lines = history(place / "plain", "plain", "b")
    assert [line["kept"] for line in lines[:3]] == [math.ceil(KEEP * SIZES["b"])] * 3
    assert all(len(line["local_losses"]) == EPOCHS for line in lines[:3])
    assert lines[3]["duty"] == "evaluate" and lines[3]["average"]["name"] == "accuracy"


@pytest.mark.parametrize("name", CUTS)
def test_both_transfers_take_any_cut_and_encoding(
    run: Callable[[str], dict[str, Tensor]], place: Path, tiny_model: Path, name: str
) -> None:
    found, (cut, tail) = run(name), CUTS[name]
    assert all(tensor.isfinite().all() for tensor in found.values())
    duties = [line["duty"] for line in history(place / name, name, "c")]
    asked = {"calibrate-cut": cut, "calibrate-tail": tail}
    needed = [duty for duty, at in asked.items() if at["cut"].startswith("stream")]
    assert duties == [*needed, "train", "evaluate"]
    first, last = f"layer.{SPLIT - 1}.cut", "layer.3.cut"
    shares = {n.rpartition(".")[2] for n in found if first in n}
    assert shares == {
        "stream": {"encoder", "offset"}, "sft": {"u"}, "svd-residual": {"u"}, "none": set()
    }[cut["cut"]]  # fmt: skip
    assert (last in " ".join(found)) == (name == "coded"), "of the tail's code in the last block"


def test_cuts_on_both_transfers_make_them_smaller(run: Callable[[str], Any], place: Path) -> None:
    """Of one round with its evaluation, calibration left out: the average is as large for both."""
    moved = {}
    for name in ("plain", "coded"):
        run(name)
        lines = history(place / name, name, "c")
        (line,) = [line for line in lines if line["duty"] == "evaluate"]
        moved[name] = line["bytes"]["up"]
    assert moved["coded"] < 0.7 * moved["plain"]


@pytest.mark.parametrize("name", ["plain", "coded"])
def test_the_cloud_keeps_a_model_that_can_be_used(
    run: Callable[[str], dict[str, Tensor]], data: dict[str, Path], place: Path, name: str
) -> None:
    """It says what clients found of the last average, who had its body elsewhere."""
    run(name)
    folder = place / "sessions" / "federations" / name / "model"
    parts = load_parts(folder)
    task = TASKS["text-classification"].with_labels(("bad", "good"))
    rows = read_rows_of(task, data["c"], train_limit=None, eval_limit=None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    examples = tokenized(classified(task, rows.validation[""]), tokenizer, 64)
    losses, right, total = 0.0, 0, 0
    with torch.no_grad():
        for batch in examples.in_order(4):
            logits, labels = parts(batch.inputs), torch.tensor(batch.labels)
            losses += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(dim=1) == labels).sum())
            total += len(labels)
    found = metrics(place / name, name, "c")["metric"]
    assert found["value"] == right / total
    rounded = 1e-6 if name == "plain" else 0.1  # what travels as int8 is rounded
    assert found["loss"] == pytest.approx(losses / total, abs=rounded)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no folder of a model in three parts"):
        load_parts(tmp_path)


def test_halves_get_their_basis_from_all_clients(
    run: Callable[[str], dict[str, Tensor]], place: Path
) -> None:
    found = run("halves")
    duties = [line["duty"] for line in history(place / "halves", "halves", "b")]
    assert duties == ["calibrate-cut", "train", "evaluate"]
    assert found["bert.encoder.layer.2.cut.encoder"].shape == (32, 8)


@pytest.mark.parametrize("method", ["sfprompt", "fedavg"])
def test_images(cloud: Cloud, place: Path, vit: Path, images: dict[str, Path], method: str) -> None:
    name = f"vit-{method}"
    clients = [
        join(
            place / name, cloud.server, name, client, folder, "--model", vit,
            *("--task", "image-classification"),
        )
        for client, folder in images.items()
    ]  # fmt: skip
    all_said(clients)
    found = load_file(average_file(place / name, name, "a"))
    assert ("prompts" in found) == (method == "sfprompt")
    assert metrics(place / name, name, "a")["metric"]["name"] == "accuracy"
