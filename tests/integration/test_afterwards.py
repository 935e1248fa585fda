"""What a person does with a finished run: evaluate, predict, export. Two real processes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from sft_common.config import SplitSpec
from sft_common.errors import ModelError
from sft_common.model.joined import load_joined, save_joined
from sft_common.model.loading import Pretrained
from tests.models import save_tiny_model
from tests.processes import (
    Cloud,
    edge_here,
    run,
    running_cloud,
    train_here,
    write_rows,
)

GOOD, BAD = "a lovely quiet room", "the food was awful and poor"
ROWS = [{"sentence": GOOD if n % 2 else BAD, "label": n % 2} for n in range(32)]
CUTS = ["none", "sft", "sft-output", "svd-residual", "stream", "stream-end"]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    place = tmp_path_factory.mktemp("cloud")
    saved = ("--save-dir", place / "saved", "--allow-export")
    with running_cloud(place, *saved) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data"), ROWS, ROWS[:7])


@pytest.fixture(scope="module")
def runs(
    cloud: Cloud, data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One run for each cut."""
    folder = tmp_path_factory.mktemp("runs")
    for cut in CUTS:
        train_here(
            folder,
            *("--task", "sst2", "--model", tiny_model, "--data", data, "--server", cloud.server),
            *("--cut", cut, "--split-layer", 2, "--rank", 4, "--max-steps", 3),
            *("--batch-size", 8, "--learning-rate", 5e-3, "--encoding", "float32"),
            name=cut,
        )
    return folder


def edge(*arguments: object, stdin: str = "") -> str:
    """Run `sft-edge` to a good end and return what it printed."""
    done = edge_here(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def split_logits(cloud: Cloud, folder: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of both halves as the two sides kept them."""
    facts = json.loads((folder / "job.json").read_text())
    split = SplitSpec(**facts["split"])
    labels = 2 if facts["head"] == "causal-lm" else facts["num_labels"]
    pretrained = Pretrained(Path(facts["model"]), num_labels=labels, head=facts["head"])
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1, load_file(folder / "edge.safetensors"))
    kept = cloud.log.parent / "saved" / facts["session_id"] / "cloud.safetensors"
    net2, _ = pretrained.net2(split, seed=0, device=torch.device("cpu"), trained=load_file(kept))
    with torch.no_grad():
        logits: torch.Tensor = net2.eval()(net1.eval()(inputs), inputs["attention_mask"])
    return logits


@pytest.mark.parametrize("cut", CUTS)
def test_an_exported_model_gives_the_split_models_logits(
    cloud: Cloud, runs: Path, cut: str, tmp_path: Path
) -> None:
    edge("export", "--run", runs / cut, "--to", tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert ("split.json" in names) == (cut != "none")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    inputs = dict(tokenizer([GOOD, BAD, "tea"], padding=True, return_tensors="pt"))
    with torch.no_grad():
        if cut == "none":
            stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
            assert stock.config.id2label == {0: "negative", 1: "positive"}
            logits = stock(**inputs).logits
        else:
            logits = load_joined(tmp_path / "model")(**inputs)
    expected = split_logits(cloud, runs / cut, inputs)
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    said = predictions(runs / cut, GOOD, BAD, "tea")
    probabilities = logits.softmax(dim=-1).max(dim=-1).values.tolist()
    labels = [["negative", "positive"][n] for n in logits.argmax(dim=-1).tolist()]
    assert [line["prediction"] for line in said] == labels
    assert [line["probability"] for line in said] == pytest.approx(probabilities, abs=1e-5)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "sst2" in card and "accuracy" in card and "plain split learning" in card


@pytest.mark.parametrize("family", ["gpt2", "llama", "deberta-v2", "mpnet", "distilbert"])
@pytest.mark.parametrize("cut", ["none", "stream"])
def test_other_families_are_exported_too(
    cloud: Cloud, data: Path, tmp_path: Path, family: str, cut: str
) -> None:
    """Tied heads, tables of relative positions and gated layers among them."""
    causal = family in ("gpt2", "llama")
    head = "causal-lm" if causal else "sequence-classification"
    changes = {"tie_word_embeddings": True} if causal else {}
    model = save_tiny_model(tmp_path / "tiny", family, head=head, **changes)
    task = ("--task", "causal-lm", "--text-column", "sentence") if causal else ("--task", "sst2")
    train_here(
        tmp_path,
        *(*task, "--model", model, "--data", data, "--server", cloud.server, "--cut", cut),
        *("--split-layer", 2, "--rank", 4, "--max-steps", 3, "--learning-rate", 5e-3),
        *("--batch-size", 8, "--max-length", 12),
    )
    edge("export", "--run", tmp_path / "run", "--to", tmp_path / "model")
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    inputs = {"input_ids": torch.randint(5, 40, (2, 6)) * mask, "attention_mask": mask}
    with torch.no_grad():
        if cut == "none":
            auto = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
            logits = auto.from_pretrained(tmp_path / "model").eval()(**inputs).logits
        else:
            logits = load_joined(tmp_path / "model")(**inputs)
    expected = split_logits(cloud, tmp_path / "run", inputs)
    rows = mask.bool() if causal else slice(None)
    torch.testing.assert_close(logits[rows], expected[rows], rtol=0, atol=1e-5)


def test_half_of_a_half_is_not_exported_and_not_loaded(runs: Path, tmp_path: Path) -> None:
    edge("export", "--run", runs / "stream", "--to", tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    del tensors["classifier.weight"]
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"no tensor classifier\.weight"):
        load_joined(tmp_path / "model")
    config = AutoConfig.from_pretrained(tmp_path / "model", num_labels=2)
    split = SplitSpec(cut="stream", split_layer=2, rank=4)
    with pytest.raises(ModelError, match=r"not both halves of the model: classifier\.weight"):
        save_joined(tmp_path, tensors, config, split, head="sequence-classification", num_labels=2)


def predictions(folder: Path, *texts: str) -> list[dict[str, Any]]:
    lines = edge("predict", "--run", folder, "--json", *texts).splitlines()
    return [json.loads(line) for line in lines]


def test_an_evaluation_finds_what_the_run_found(runs: Path, data: Path) -> None:
    found = json.loads(edge("evaluate", "--run", runs / "stream", "--json"))
    metrics = json.loads((runs / "stream" / "metrics.json").read_text())
    assert found["metrics"] == pytest.approx(metrics["metrics"])
    assert found["loss"] == pytest.approx(metrics["validation_loss"], rel=1e-5)
    assert found["examples"] == 7
    fewer = edge("evaluate", "--run", runs / "stream", "--eval-examples", 2, "--data", data)
    assert re.search(r"accuracy +│ +[0-9.]+ %", fewer) and re.search(r"examples +│ +2 ", fewer)


def test_predictions_from_arguments_a_file_and_a_pipe_agree(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text(f"{GOOD}\n\n{BAD}\n")
    arguments = edge("predict", "--run", runs / "sft", GOOD, BAD)
    assert arguments == edge("predict", "--run", runs / "sft", "--file", tmp_path / "lines.txt")
    assert arguments == edge("predict", "--run", runs / "sft", stdin=f"{GOOD}\n{BAD}\n")
    (first, second) = (line.split("\t") for line in arguments.splitlines())
    assert {first[0], second[0]} <= {"negative", "positive"}
    assert 0.5 <= float(first[1]) <= 1


def test_a_trained_model_can_be_trained_on(
    runs: Path, cloud: Cloud, data: Path, tmp_path: Path
) -> None:
    """An exported folder is a model for both sides, and knows its own cut."""
    edge("export", "--run", runs / "stream", "--to", tmp_path / "model")
    line = ("--task", "sst2", "--model", tmp_path / "model", "--data", data)
    still = ("--max-steps", 1, "--learning-rate", 0, "--encoding", "float32")
    metrics = train_here(tmp_path, *line, "--server", cloud.server, *still, name="again")
    before = json.loads((runs / "stream" / "metrics.json").read_text())
    assert (metrics["cut"], metrics["split_layer"], metrics["rank"]) == ("stream", 2, 4)
    assert metrics["metrics"].keys() == before["metrics"].keys()
    assert metrics["validation_loss"] == pytest.approx(before["validation_loss"], rel=1e-5)
    done = edge_here(
        *("train", *line, "--server", cloud.server, "--cut", "sft"),
        *("--runs-dir", tmp_path),
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "sft-edge: model was prepared for cut stream in block 2 at rank 4, but cut sft in block 2"
    )


def test_a_cloud_that_was_not_told_to_hands_nothing_out(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    with running_cloud(tmp_path / "cloud", "--save-dir", tmp_path / "saved") as cloud:
        line = ("--task", "sst2", "--model", tiny_model, "--data", data, "--max-steps", 1)
        train_here(tmp_path, *line, "--rank", 4, "--server", cloud.server)
        done = edge_here("export", "--run", tmp_path / "run", "--to", tmp_path / "out")
        assert done.returncode == 1
        assert "does not hand out what it trained; its owner can start it with --allow-export" in (
            done.stderr
        )
        assert not (tmp_path / "out").exists()
        assert len(edge("predict", "--run", tmp_path / "run", "tea").splitlines()) == 1


def test_a_cloud_that_kept_nothing_says_so(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    with running_cloud(tmp_path / "cloud", "--allow-export") as cloud:
        line = ("--task", "sst2", "--model", tiny_model, "--data", data, "--max-steps", 1)
        train_here(tmp_path, *line, "--rank", 4, "--server", cloud.server)
        for words in (["predict", "tea"], ["evaluate"], ["export", "--to", tmp_path / "out"]):
            done = edge_here(words[0], "--run", tmp_path / "run", *words[1:])
            assert done.returncode == 1
            assert len(done.stderr.splitlines()) == 1
            assert "keeps no trained sessions: it was started with --no-save" in (done.stderr)


def test_bare_processes_do_it_too(runs: Path) -> None:
    done = run("sft-edge", "predict", "--run", runs / "stream-end", GOOD)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == edge("predict", "--run", runs / "stream-end", GOOD)


def test_bad_input_to_the_three_commands(runs: Path, tmp_path: Path, cloud: Cloud) -> None:
    (tmp_path / "there").mkdir()
    for words, message in (
        (["predict", "--run", tmp_path, "tea"], "is not the folder of a finished run: cannot read"),
        (["evaluate", "--run", tmp_path / "no"], "is not the folder of a finished run"),
        (
            ["predict", "--run", runs / "sft", "a\tb"],
            "line 1: task sst2 needs sentence, with tabs between; found are 2",
        ),
        (["predict", "--run", runs / "sft", "--file", tmp_path / "no"], "cannot read"),
        (["predict", "--run", runs / "sft", " "], "there is nothing to predict"),
        (["export", "--run", runs / "sft", "--to", tmp_path / "there"], "is there already"),
        (["export", "--run", runs / "sft", "--to", tmp_path / "a" / "b"], "there is no folder"),
    ):
        done = edge_here(*words)
        assert done.returncode == 1, words
        (line,) = done.stderr.splitlines()
        assert message in line


def test_a_session_of_another_cut_is_not_taken_over(
    runs: Path, tmp_path: Path, cloud: Cloud
) -> None:
    """Whose job.json was changed, or who guessed a session's name."""
    facts = json.loads((runs / "sft" / "job.json").read_text())
    other = json.loads((runs / "stream" / "job.json").read_text())
    for changes, message in (
        ({"session_id": other["session_id"]}, "has another split"),
        ({"session_id": "0" * 16}, "has no session 0000000000000000: one is kept once"),
        ({"session_id": "../saved"}, "'../saved' is no name of a session"),
    ):
        place = tmp_path / message.split()[-1].strip("'./")
        place.mkdir()
        for name in ("metrics.json", "edge.safetensors"):
            (place / name).write_bytes((runs / "sft" / name).read_bytes())
        (place / "job.json").write_text(json.dumps(facts | changes))
        done = edge_here("predict", "--run", place, "tea")
        assert done.returncode == 1 and message in done.stderr, done.stderr


def test_a_language_model_goes_on_with_a_text(
    cloud: Cloud, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Taught one sentence by heart, it repeats it."""
    folder = save_tiny_model(tmp_path / "gpt2", "gpt2", head="causal-lm")
    rows = [{"text": "the bus never came and we never broke the lamp"}] * 40
    data = write_rows(tmp_path / "data", rows, rows[:4])
    metrics = train_here(
        tmp_path,
        *("--task", "causal-lm", "--model", folder, "--data", data, "--server", cloud.server),
        *("--cut", "none", "--split-layer", 2, "--epochs", 12, "--learning-rate", 3e-3),
        *("--max-length", 12, "--dropout", 0),
    )
    assert metrics["metric"]["value"] < 2
    said = edge("predict", "--run", tmp_path / "run", "--tokens", 4, "the bus never")
    assert said.strip() == "came and we never"


def test_a_loss_that_is_no_number_at_the_first_step(
    cloud: Cloud, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{"sentence1": GOOD, "sentence2": BAD, "label": 1e30}]
    data = write_rows(tmp_path / "data", rows, rows)
    line = ("--task", "stsb", "--model", tiny_model, "--data", data, "--server", cloud.server)
    where = ("--runs-dir", tmp_path, "--name", "r", "--cut", "sft", "--rank", 4)
    done = edge_here("train", "--quiet", *where, *line)
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert "at step 1 of 3: the numbers to learn go up to 1e+30" in message
    assert message.endswith("nothing was trained before, so there is no snapshot")
    assert not (tmp_path / "r").exists()


def test_every_word_keeps_its_tag_and_every_line_its_answer(cloud: Cloud, tmp_path: Path) -> None:
    """Also where a word, or a whole line, is nothing to the tokenizer."""
    model = save_tiny_model(tmp_path / "tiny", head="token-classification")
    rows = [{"tokens": GOOD.split(), "tags": ["O", "B-X", "I-X", "O"]}] * 12
    data = write_rows(tmp_path / "data", rows, rows[:2])
    line = ("--task", "token-classification", "--model", model, "--data", data, "--rank", 4)
    train_here(tmp_path, *line, "--server", cloud.server, "--max-steps", 2)
    said = predictions(tmp_path / "run", "\u200d", "the \u200d bus", "bus the")
    tags = [line["prediction"] for line in said]
    assert [len(of_line) for of_line in tags] == [1, 3, 2]
    assert tags[0] == [None] and tags[1][1] is None
    assert None not in (tags[1][0], tags[1][2], *tags[2])


def test_a_basis_of_too_few_tokens_is_refused(
    cloud: Cloud, tiny_model: Path, tmp_path: Path
) -> None:
    """With as many channels as tokens it would hand the tokens over."""
    data = write_rows(tmp_path / "data", ROWS[:1], ROWS[:1])
    line = ("--task", "sst2", "--model", tiny_model, "--data", data, "--server", cloud.server)
    done = edge_here(
        *("train", "--quiet", "--runs-dir", tmp_path, "--cut", "stream", "--rank", 4, *line)
    )
    assert "has 8 tokens, a basis of rank 4 needs at least 16" in done.stderr


def test_a_loss_that_is_no_number_stops_at_the_last_good_snapshot(
    cloud: Cloud, tiny_model: Path, tmp_path: Path
) -> None:
    """What is left is the state before the failing step, and it can be used."""
    rows = [{"sentence1": GOOD, "sentence2": BAD, "label": n % 5} for n in range(24)]
    rows[7]["label"] = 1e30  # its square is no float32 any more
    data = write_rows(tmp_path / "data", rows, rows[:4])
    line = ("--task", "stsb", "--model", tiny_model, "--data", data, "--server", cloud.server)
    more = ("--rank", 4, "--batch-size", 4, "--seed", 1, "--learning-rate", 1e-3)
    done = edge_here("train", "--quiet", "--runs-dir", tmp_path, "--name", "r", *line, *more)
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    found = re.match(
        r"sft-edge: the loss is (nan|inf) at step (\d+) of 18: the numbers to learn go up to "
        r"1e\+30; scale them to a few units; the last good snapshot is of step (\d+): "
        r"\S+edge\.safetensors here, on the cloud session [0-9a-f]{16}$",
        message,
    )
    assert found, message
    assert int(found[2]) == int(found[3]) + 1 > 1
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        "history.jsonl",
        "job.json",
        "edge.safetensors",
        "report.html",
    }
    assert "It ended early" in (tmp_path / "r" / "report.html").read_text()
    assert float(edge("predict", "--run", tmp_path / "r", "tea\tfood")) < 100
