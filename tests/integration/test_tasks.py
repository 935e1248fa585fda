"""Every kind of task through two real processes: the published ones, and data of one's own.

The edge is mostly this very process, which spares a run 4 s of imports; those with `train` have a
process of their own.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from sft_edge.cli import main
from sft_edge.stream import Stream
from sft_edge.tasks.kinds import KINDS
from sft_edge.tasks.table import TASKS
from tests.models import SIZES, WORDS, save_tiny_model
from tests.processes import Cloud, history, running_cloud, train, write_rows

Run = Callable[..., dict[str, Any]]
Model = Callable[[str, str], Path]

METRICS = {
    "sst2": ["accuracy", "f1"],
    "qnli": ["accuracy", "f1"],
    "mnli": ["accuracy", "accuracy_mismatched"],
    "qqp": ["accuracy", "f1"],
    "cola": ["matthews", "accuracy", "f1"],
    "rte": ["accuracy", "f1"],
    "stsb": ["spearman", "pearson"],
    "mrpc": ["accuracy", "f1"],
    "squad": ["f1", "exact_match"],
}
"""The tasks of the paper and what is said of each, its own metric first."""

CORRELATIONS = {"matthews", "spearman", "pearson"}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """(family, task) -> the folder of a small model that ends in the task's head."""
    place = tmp_path_factory.mktemp("models")

    @cache
    def saved(family: str, head: str) -> Path:
        folder = save_tiny_model(place / f"{family}-{head}", family, head=head)
        if family == "vit":
            ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
        return folder

    return lambda family, task: saved(family, KINDS[TASKS[task].kind].head)


@pytest.fixture
def edge(cloud: Cloud, tmp_path: Path) -> Run:
    """Runs `sft-edge train` in this process to a good end; returns its metrics.json."""

    def attempt(*arguments: object, name: str = "run") -> dict[str, Any]:
        line = ("train", "--quiet", "--runs-dir", tmp_path, "--name", name, *arguments)
        with pytest.raises(SystemExit) as end:
            main([*map(str, line), "--server", cloud.server])
        assert end.value.code == 0
        metrics: dict[str, Any] = json.loads((tmp_path / name / "metrics.json").read_text())
        return metrics

    return attempt


def assert_sound(metrics: dict[str, Any], names: Sequence[str]) -> None:
    """Check that a run has these metrics, the first one first, all in their range."""
    assert list(metrics["metrics"]) == list(names)
    assert metrics["metric"] == {"name": names[0], "value": metrics["metrics"][names[0]]}
    for name, value in metrics["metrics"].items():
        assert (-1 if name in CORRELATIONS else 0) <= value <= 1
    assert 0 < metrics["validation_loss"] < math.inf
    moved, plain = (
        sum(metrics["bytes"][name] for name in both)
        for both in (("up", "down"), ("split_learning_up", "split_learning_down"))
    )
    assert metrics["bytes"]["reduction"] == pytest.approx(plain / moved, abs=1e-3)


# The tasks of the paper


@pytest.mark.parametrize("task", METRICS)
def test_the_published_data_and_real_weights(
    edge: Run, shared_data: Path, cloud: Cloud, tmp_path: Path, task: str
) -> None:
    line = ("--task", task, "--data", shared_data / task, "--model", "all-MiniLM-L6-v2")
    limits = ("--train-examples", 32, "--eval-examples", 16, "--max-length", 64)
    batch_size = 16
    if task == "squad":  # a context makes several windows
        limits, batch_size = ("--train-examples", 8, "--eval-examples", 4, "--max-length", 128), 8
    arguments = (*line, *limits, "--batch-size", batch_size, "--epochs", 1)
    if task == "squad":
        metrics = train(tmp_path, *arguments, "--server", cloud.server)
        assert 8 < metrics["examples"] < 64
    else:
        metrics = edge(*arguments)
        assert metrics["examples"] == 32
    assert_sound(metrics, METRICS[task])
    assert metrics["steps"] == math.ceil(metrics["examples"] / batch_size)
    # N / R = 48, more for padding that was not sent, less for the factor and the framing.
    assert 35 < metrics["bytes"]["reduction"] < 150


def sentence(n: int) -> str:
    """Return the n-th of some sentences of 3 to 7 words that the tiny tokenizer knows."""
    return " ".join(WORDS[(7 * n + k * k) % len(WORDS)] for k in range(3 + n % 5))


def pair(first: str, second: str, n: int, label: float) -> dict[str, Any]:
    return {first: sentence(n), second: sentence(n + 1), "label": label, "idx": n}


def asked(n: int) -> dict[str, Any]:
    before, answer = sentence(n), sentence(n + 1)
    return {
        **{
            "id": f"q{n}",
            "title": "",
            "context": f"{before} and {answer}",
            "question": sentence(n + 2),
        },
        "answers": {"text": [answer], "answer_start": [len(before) + len(" and ")]},
    }


ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "sst2": lambda n: {"sentence": sentence(n), "label": n % 2, "idx": n},
    "qnli": lambda n: pair("question", "sentence", n, n % 2),
    "mnli": lambda n: pair("premise", "hypothesis", n, n % 3),
    "qqp": lambda n: pair("question1", "question2", n, n % 2),
    "cola": lambda n: {"sentence": sentence(n), "label": n % 2, "idx": n},
    "rte": lambda n: pair("sentence1", "sentence2", n, n % 2),
    "stsb": lambda n: pair("sentence1", "sentence2", n, n % 11 / 2),
    "mrpc": lambda n: pair("sentence1", "sentence2", n, n % 2),
    "squad": asked,
    "text-classification": lambda n: {"text": sentence(n), "label": "ab"[n % 2]},
    "token-classification": lambda n: {"tokens": sentence(n).split(), "tags": tags(sentence(n))},
    "causal-lm": lambda n: {"text": sentence(n)},
    "image-classification": lambda n: {"image": [[n, 9 * n], [0, 255]], "label": n % 3},
}
"""Task -> its n-th row, in the columns it is published in."""


def tags(text: str) -> list[str]:
    """Return the tags of the words of a text: the room and what is said just before it."""
    return ["O" if word not in TAGS else TAGS[word] for word in text.split()]


TAGS = {"lovely": "B-PLACE", "quiet": "I-PLACE", "room": "I-PLACE", "staff": "B-WHO"}


def written(folder: Path, task: str, count: int = 16) -> Path:
    """Write so many rows of a task into a file of each of its parts."""
    folder.mkdir()
    text = "".join(json.dumps(ROWS[task](n)) + "\n" for n in range(count))
    for part in ("train", *TASKS[task].parts.values()):
        (folder / f"{part}.jsonl").write_text(text)
    return folder


@pytest.mark.parametrize("task", METRICS)
def test_the_published_columns(edge: Run, model: Model, tmp_path: Path, task: str) -> None:
    metrics = edge(
        *("--task", task, "--model", model("bert", task), "--data", written(tmp_path / "d", task)),
        *("--batch-size", 8, "--epochs", 1, "--rank", 4, "--max-length", 48, "--log-every", 1),
    )
    assert_sound(metrics, METRICS[task])
    assert (metrics["steps"], metrics["examples"]) == (2, 16)
    assert metrics["labels"] == list(TASKS[task].labels)
    steps = [entry["step"] for entry in history(tmp_path) if entry["kind"] == "step"]
    assert steps == [1, 2]


# One's own data


OPINIONS = {"blame": "awful staff", "praise": "a lovely quiet room", "shrug": "it was a bus"}


def test_pairs_of_texts_with_named_classes_in_csv(edge: Run, model: Model, tmp_path: Path) -> None:
    rows = [(sentence(n), *reversed(list(OPINIONS.items())[n % 3])) for n in range(48)]
    for part in ("train", "validation"):
        with open(tmp_path / f"{part}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("a", "b", "kind"), *rows])
    task = "text-classification"
    metrics = edge(
        *("--task", task, "--model", model("bert", task), "--data", tmp_path, "--epochs", 8),
        *("--text-column", "a", "--text-column", "b", "--label-column", "kind", "--rank", 8),
        *("--learning-rate", 3e-3, "--batch-size", 8, "--dropout", 0),
    )
    assert_sound(metrics, ["accuracy"])
    assert metrics["labels"] == ["blame", "praise", "shrug"]
    assert metrics["metric"]["value"] > 0.9


@pytest.mark.parametrize("named", [True, False])
def test_words_with_tags_in_jsonl(edge: Run, model: Model, tmp_path: Path, named: bool) -> None:
    """The tag of a word can be seen in the word, so F1 of entities gets near 1.

    Numbered tags name no entities, so there is no F1 of them: accuracy comes first.
    """
    numbers = {"O": 0, "B-PLACE": 1, "I-PLACE": 2, "B-WHO": 3}
    sentences = [f"{sentence(n)} a lovely quiet room and staff".split() for n in range(32)]
    rows = [
        {"words": words, "ner": [t if named else numbers[t] for t in tags(" ".join(words))]}
        for words in sentences
    ]
    task = "token-classification"
    metrics = edge(
        *("--task", task, "--data", write_rows(tmp_path / "d", rows, rows[:8])),
        *("--model", model("deberta-v2", task), "--text-column", "words", "--label-column", "ner"),
        *("--learning-rate", 3e-3, "--batch-size", 8, "--epochs", 8, "--dropout", 0),
    )
    assert_sound(metrics, ["f1", "accuracy"] if named else ["accuracy"])
    assert metrics["labels"] == (sorted(numbers) if named else ["0", "1", "2", "3"])
    assert metrics["metric"]["value"] > 0.8


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_running_text(edge: Run, model: Model, cloud: Cloud, tmp_path: Path, family: str) -> None:
    """A model that knows nothing has a perplexity of about the vocabulary's size, here 64."""
    task = "causal-lm"
    data = written(tmp_path / "d", task, 64)
    arguments = (
        *("--task", task, "--model", model(family, task), "--data", data, "--max-length", 24),
        *("--epochs", 8, "--learning-rate", 1e-2, "--rank", 8, "--dropout", 0),
    )
    metrics = (
        train(tmp_path, *arguments, "--server", cloud.server)
        if family == "gpt2"
        else edge(*arguments)
    )
    assert list(metrics["metrics"]) == ["perplexity"]
    assert metrics["labels"] == []
    assert 1 < metrics["metric"]["value"] < SIZES["vocab_size"] / 2
    assert math.exp(metrics["validation_loss"]) == pytest.approx(metrics["metric"]["value"])


@pytest.fixture(scope="module")
def digits() -> tuple[list[np.ndarray], list[int]]:
    """Handwritten digits, 8 x 8 grey pixels in 0..255, with their classes."""
    known = load_digits()
    images = (known.images * (255 / 16)).round().astype(np.uint8)
    return list(images), known.target.tolist()


def digit_options(model: Model, data: Path) -> tuple[object, ...]:
    task = "image-classification"
    return (
        *("--task", task, "--model", model("vit", task), "--data", data, "--split-layer", 2),
        *("--epochs", 4, "--learning-rate", 3e-3, "--batch-size", 16, "--dropout", 0),
    )


def test_images_as_lists_of_numbers_in_parquet(
    edge: Run, model: Model, digits: tuple[list[np.ndarray], list[int]], tmp_path: Path
) -> None:
    rows = [{"image": image.tolist(), "label": label} for image, label in zip(*digits, strict=True)]
    for part, some in (("train", rows[:600]), ("validation", rows[600:700])):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some), tmp_path / f"{part}.parquet")
    metrics = edge(*digit_options(model, tmp_path), "--cut", "none")
    assert_sound(metrics, ["accuracy"])
    assert metrics["labels"] == list("0123456789")
    assert (metrics["steps"], metrics["examples"]) == (152, 600)
    assert metrics["metric"]["value"] > 0.6


def test_images_as_paths_in_csv(
    cloud: Cloud, model: Model, digits: tuple[list[np.ndarray], list[int]], tmp_path: Path
) -> None:
    """The paths are relative to the folder of the data, wherever the edge is started."""
    data = tmp_path / "data"
    (data / "png").mkdir(parents=True)
    rows = [("file", "digit")]
    for n, (image, label) in enumerate(zip(*(part[:700] for part in digits), strict=True)):
        Image.fromarray(image).save(data / "png" / f"{n}.png")
        rows.append((f"png/{n}.png", f"d{label}"))
    for part, some in (("train", rows[:601]), ("validation", [rows[0], *rows[601:]])):
        with open(data / f"{part}.csv", "w", newline="") as file:
            csv.writer(file).writerows(some)
    metrics = train(
        tmp_path,
        *(*digit_options(model, data), "--server", cloud.server, "--cut", "stream"),
        *("--rank", 16, "--image-column", "file", "--label-column", "digit"),
        *("--encoding", "float32"),
    )
    assert_sound(metrics, ["accuracy"])
    assert metrics["labels"] == [f"d{n}" for n in range(10)]
    assert metrics["metric"]["value"] > 0.6
    assert metrics["bytes"]["reduction"] == pytest.approx(32 / 16, rel=0.05)


# Labels that stay here


SENT = {
    "cloud": {"open", "step", "apply", "evaluate", "close"},
    "edge": {"open", "forward", "backward", "apply", "evaluate", "close"},
}


@pytest.mark.parametrize(
    ("task", "family"),
    [
        *((task, "bert") for task in ("sst2", "stsb", "squad", "token-classification")),
        ("causal-lm", "gpt2"),
        ("image-classification", "vit"),
    ],
)
def test_where_the_loss_is_computed_changes_no_bit_and_labels_do_not_travel(
    edge: Run,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    family: str,
) -> None:
    """With dropout, micro-batches of unlike weight and rounded gradients."""
    line = (
        *("--task", task, "--model", model(family, task), "--batch-size", 7, "--epochs", 2),
        *("--data", written(tmp_path / "d", task), "--rank", 4, "--max-length", 24),
        *("--micro-batches", 3, "--dropout", 0.1, "--log-every", 1, "--snapshot-every", 0),
    )
    send = Stream.send
    told, halves = {}, {}
    for labels in ("cloud", "edge"):
        sent = []

        def note(
            stream: Stream, request: Any, *more: Any, sent: list[Any] = sent, **named: Any
        ) -> float:
            sent.append(request)
            return send(stream, request, *more, **named)

        monkeypatch.setattr(Stream, "send", note)
        metrics = edge(*line, "--labels", labels, name=labels)
        assert metrics["labels_on"] == labels
        assert {request.WhichOneof("request") for request in sent} == SENT[labels]
        named = [getattr(request, request.WhichOneof("request")) for request in sent]
        given = [any(getattr(each, name, ()) for name in ("labels", "numbers")) for each in named]
        assert any(given) == (labels == "cloud")
        lines = history(tmp_path, labels)
        told[labels] = [(entry["kind"], entry["step"], entry["loss"]) for entry in lines]
        halves[labels] = load_file(tmp_path / labels / "edge.safetensors")
    assert told["edge"] == told["cloud"]
    for name, tensor in halves["cloud"].items():
        assert torch.equal(halves["edge"][name], tensor), name


# Families and cuts


FAMILY_CUTS = {
    "bert": "sft",
    "distilbert": "sft-output",
    "mpnet": "svd-residual",
    "deberta-v2": "stream",
    "gpt2": "stream-end",
    "llama": "sft",
    "qwen3": "sft-output",
    "mistral": "svd-residual",
}


@pytest.mark.parametrize(("family", "cut"), FAMILY_CUTS.items())
def test_a_family_and_a_cut(edge: Run, model: Model, tmp_path: Path, family: str, cut: str) -> None:
    task = "text-classification"
    metrics = edge(
        *("--task", task, "--model", model(family, task), "--data", written(tmp_path / "d", task)),
        *("--cut", cut, "--rank", 4, "--batch-size", 8, "--max-steps", 2, "--split-layer", 2),
    )
    assert_sound(metrics, ["accuracy", "f1"])
    assert (metrics["cut"], metrics["steps"]) == (cut, 2)
    edge_half = load_file(tmp_path / "run" / "edge.safetensors")
    (code,) = (name for name in edge_half if name.endswith((".cut.u", ".cut.encoder")))
    width = SIZES["intermediate_size"] if cut == "sft-output" else SIZES["hidden_size"]
    assert edge_half[code].shape == (width, 4)
    assert edge_half[code].isfinite().all()


# Equality with the unsplit model


EXACTLY = ("--cut", "none", "--split-layer", 2, "--dropout", 0, "--unsplit", "--log-every", 1)


def assert_same_losses(lines: Sequence[dict[str, Any]], count: int) -> None:
    """Check that the split and the unsplit run have so many entries each, and the same losses."""
    split, unsplit = (
        [(e["kind"], e["step"], e["loss"]) for e in lines if e["variant"] == variant]
        for variant in ("split", "unsplit")
    )
    assert len(split) == len(unsplit) == count
    for mine, theirs in zip(split, unsplit, strict=True):
        assert mine == (*theirs[:2], pytest.approx(theirs[2], rel=1e-5))


@pytest.mark.parametrize(
    ("task", "family"),
    [
        ("text-classification", "bert"),
        ("text-classification", "gpt2"),
        ("stsb", "distilbert"),
        ("squad", "bert"),
        ("squad", "distilbert"),
        ("token-classification", "bert"),
        ("token-classification", "llama"),
        ("causal-lm", "llama"),
        ("image-classification", "vit"),
    ],
)
def test_plain_split_learning_is_the_unsplit_model_step_by_step(
    edge: Run, model: Model, tmp_path: Path, task: str, family: str
) -> None:
    """Not for tied embeddings (gpt2's causal-lm): each half has a copy of its own to train."""
    data = written(tmp_path / "d", task, 48 if task == "causal-lm" else 16)
    metrics = edge(
        *("--task", task, "--model", model(family, task), "--data", data),
        *(*EXACTLY, "--learning-rate", 3e-3, "--batch-size", 4, "--epochs", 2, "--max-length", 32),
    )
    assert_same_losses(history(tmp_path), metrics["steps"] + 2)
    assert metrics["metrics"] == pytest.approx(metrics["unsplit_metrics"], rel=1e-4)


def test_padding_that_the_configuration_calls_otherwise(edge: Run, tmp_path: Path) -> None:
    """Llama and Qwen models for chats: the stock head looks for the last token by that id."""
    folder = save_tiny_model(tmp_path / "gpt2", "gpt2", pad_token_id=None, eos_token_id=9)
    task = "text-classification"
    metrics = edge(
        *("--task", task, "--model", folder, "--data", written(tmp_path / "d", task)),
        *(*EXACTLY, "--learning-rate", 3e-3, "--batch-size", 4, "--epochs", 1),
    )
    assert_same_losses(history(tmp_path), metrics["steps"] + 1)
