"""`sft-cloud prepare`: a model is healed for a cut, and both sides train it. Real processes."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft_cloud.cli import main
from sft_cloud.healing import Healer
from sft_cloud.texts import encoded, read_texts
from sft_common.config import SplitSpec
from sft_common.errors import TrainingError
from sft_common.model.loading import Pretrained, set_edge_factor
from sft_common.model.partition import Net1, Net2
from sft_common.model.tokenizer import load_tokenizer
from sft_common.wire.encodings import ENCODING_TABLE
from sft_edge.tasks.texts import Example, tokenized
from tests.models import WORDS, save_tiny_model
from tests.processes import edge_here, run, running_cloud, train_here, write_rows

CPU = torch.device("cpu")


def sentences(count: int) -> list[str]:
    generator = torch.Generator().manual_seed(5)
    picked = torch.randint(0, len(WORDS), (count, 9), generator=generator).tolist()
    return [" ".join(WORDS[n] for n in row) for row in picked]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "public.txt.gz"
    with gzip.open(file, "wt") as lines:
        for first, second in pairwise(sentences(300)):
            lines.write(f"{first}\n\n{first} \t{second}\n")
    return file


def prepare(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `sft-cloud prepare` in this process; returns exit code and standard error."""
    with pytest.raises(SystemExit) as end:
        main(["prepare", "--cpu", *map(str, arguments)])
    return int(str(end.value.code)), capsys.readouterr().err


@pytest.mark.parametrize(("cut", "layers"), [("stream", 3), ("stream-end", 1), ("sft", 0)])
def test_a_healed_model_is_nearer_to_the_uncut_one_and_trains_on_both_sides(
    tiny_model: Path,
    text: Path,
    tmp_path: Path,
    cut: str,
    layers: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ("--split-layer", 2, "--rank", 6)
    line = ("--model", tiny_model, "--text", text, "--cut", cut, *where, "--local-steps", 0)
    if cut == "stream-end":
        line += ("--decoder-layers", layers)
    nothing = ("--steps", 1, "--learning-rate", 0)
    code, message = prepare(*line, "--to", tmp_path / "not", *nothing, capsys=capsys)
    assert code == 0, message
    how = ("--cpu", "--to", tmp_path / "healed", "--steps", 60, "--learning-rate", 2e-3)
    done = run("sft-cloud", "prepare", *line, *how)
    assert done.returncode == 0, done.stderr
    assert "give it to both sides with --model" in done.stdout
    split = SplitSpec(cut=cut, split_layer=2, rank=6, decoder_layers=layers)
    healed = Pretrained(tmp_path / "healed", num_labels=2)
    assert healed.prepared == split
    told = json.loads((tmp_path / "healed" / "split.json").read_text())["healing"]
    assert (told["steps"], told["texts"], told["model"]) == (60, 598, tiny_model.name)
    errors = [float(line.split()[-1]) for line in done.stderr.splitlines() if "relative" in line]
    assert told["relative_error"] == pytest.approx(errors[-1], abs=1e-3)
    before, after = (
        error_of(Pretrained(tmp_path / name, num_labels=2), tiny_model, split)
        for name in ("not", "healed")
    )
    assert after < 0.8 * before
    assert after == pytest.approx(errors[-1], rel=0.4)

    rows = [{"sentence": s, "label": n % 2} for n, s in enumerate(sentences(16))]
    data = write_rows(tmp_path / "data", rows, rows)
    keeping = ("--allow-export", "--save-dir", tmp_path / "sessions")
    with running_cloud(tmp_path / "cloud", *keeping) as cloud:
        line = ("--server", cloud.server, "--task", "sst2", "--data", data)
        line = (*line, "--model", tmp_path / "healed")
        metrics = train_here(tmp_path, *line, "--max-steps", 2)
        assert (metrics["cut"], metrics["split_layer"], metrics["rank"]) == (cut, 2, 6)
        done = edge_here("train", "--quiet", *line, "--unsplit")
        assert "it holds no unsplit model; leave --unsplit out" in done.stderr
        done = edge_here("train", "--quiet", *line, "--cut", "none")
        assert f"was prepared for {split.words()}, but cut none in block 2 was asked" in done.stderr

        done = edge_here("export", "--run", tmp_path / "run", "--to", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert Pretrained(tmp_path / "out", num_labels=2).prepared == split
        line = (*line, "--model", tmp_path / "out")
        again = train_here(tmp_path, *line, "--max-steps", 1, "--learning-rate", 0, name="again")
        assert again["validation_loss"] == pytest.approx(metrics["validation_loss"], rel=1e-5)


def error_of(healed: Pretrained, folder: Path, split: SplitSpec) -> float:
    """Return the relative error of a healed model on sentences of its text."""
    pretrained = Pretrained(folder, num_labels=2, dropout=0.0)
    net1 = healed.net1(split)
    healed.fill_net1(net1)
    net2, _ = healed.net2(split, seed=0, device=CPU)
    whole: Any = pretrained.whole(seed=0)
    healer = Healer(whole, net1.eval(), net2.eval(), pretrained.family, split_layer=2, device=CPU)
    tokenizer = load_tokenizer(folder, 64)
    inputs = dict(tokenizer(sentences(64), padding=True, return_tensors="pt"))
    with torch.no_grad():
        return healer.loss(inputs).item()


def test_what_no_half_owns_is_taken_over_and_what_is_fresh_is_not_written(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A causal model keeps its language head; a classifier of nobody's is not stored.

    Like many of its kind it names no padding token.
    """
    model = save_tiny_model(tmp_path / "llama", "llama", head="causal-lm", pad_token_id=None)
    where = ("--split-layer", 1, "--rank", 4, "--decoder-layers", 0)
    line = ("--model", model, "--text", text, *where, "--local-steps", 1, "--steps", 2)
    code, message = prepare(*line, "--to", tmp_path / "healed", capsys=capsys)
    assert code == 0, message
    before = load_file(model / "model.safetensors")
    after = load_file(tmp_path / "healed" / "model.safetensors")
    assert torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    added = {f"model.layers.0.cut.{n}" for n in ("encoder", "offset", "decoder", "mean")}
    assert after.keys() - before.keys() == added
    assert before.keys() <= after.keys()
    assert (tmp_path / "healed" / "tokenizer.json").exists()


def test_a_head_of_any_number_of_classes_is_kept(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny_model(tmp_path / "three", num_labels=3)
    where = ("--split-layer", 1, "--rank", 4, "--local-steps", 0, "--steps", 1)
    line = ("--model", model, "--text", text, *where, "--to", tmp_path / "healed")
    code, message = prepare(*line, capsys=capsys)
    assert code == 0, message
    before, after = (
        load_file(folder / "model.safetensors") for folder in (model, tmp_path / "healed")
    )
    assert before["classifier.weight"].shape[0] == 3
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(after[name], before[name])
    files = (tmp_path / "healed").iterdir()
    assert len({path.stat().st_mode for path in files}) == 1  # readable by whoever reads the others


def test_the_basis_is_found_in_all_kinds_of_lines(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However few the steps; from a single line the channels would not have unit variance."""
    (tmp_path / "text.txt").write_text("\n".join(sentences(200)))
    where = ("--split-layer", 2, "--rank", 4, "--local-steps", 0, "--decoder-layers", 0)
    nothing = ("--steps", 1, "--batch-size", 1, "--learning-rate", 0)
    line = ("--model", tiny_model, "--text", tmp_path / "text.txt", *where, *nothing)
    code, message = prepare(*line, "--to", tmp_path / "healed", capsys=capsys)
    assert code == 0, message
    healed = Pretrained(tmp_path / "healed", num_labels=2, dropout=0.0)
    net1 = healed.net1(SplitSpec(cut="stream", split_layer=2, rank=4))
    healed.fill_net1(net1)
    tokenizer = load_tokenizer(tiny_model, 64)
    inputs = dict(tokenizer(sentences(200), padding=True, return_tensors="pt"))
    with torch.no_grad():
        code_TR = net1.eval()(inputs)[inputs["attention_mask"].bool()]
    torch.testing.assert_close(code_TR.std(dim=0), torch.ones(4), rtol=0, atol=0.1)


def test_a_pair_is_seen_as_the_edge_sees_it(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(f"{WORDS[0]} {WORDS[1]} \t {WORDS[2]}\n\n{WORDS[3]}\n")
    examples = read_texts([tmp_path / "pairs.txt"])
    assert examples == [(f"{WORDS[0]} {WORDS[1]}", WORDS[2]), (WORDS[3],)]
    tokenizer = load_tokenizer(tiny_model, 64)
    found = encoded(examples, tokenizer, 64)
    for at, texts in enumerate(examples):
        expected = tokenized([Example(texts, 0)], tokenizer, 64).batch([0]).inputs
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name][at, : value.shape[1]], value[0]), name
            assert not found[name][at, value.shape[1] :].any(), name


def test_half_precision_heals_as_well(
    tiny_model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--split-layer", 2, "--rank", 6)
    line = ("--model", tiny_model, "--text", text, *where, "--local-steps", 5, "--steps", 30)
    errors = {}
    for precision in ("float32", "bfloat16"):
        folder = tmp_path / precision
        code, message = prepare(
            *line, "--learning-rate", 4e-3, "--precision", precision, "--to", folder, capsys=capsys
        )
        assert code == 0, message
        told = json.loads((folder / "split.json").read_text())["healing"]
        assert told["precision"] == precision
        errors[precision] = told["relative_error"]
        assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {
            torch.float32
        }
    assert errors["bfloat16"] != errors["float32"]
    assert errors["bfloat16"] == pytest.approx(errors["float32"], rel=0.05)


def test_the_student_learns_behind_the_rounding_of_its_encoding(tiny_model: Path) -> None:
    pretrained = Pretrained(tiny_model, num_labels=2, dropout=0.0)
    split = SplitSpec(cut="none", split_layer=2)
    tokenizer = load_tokenizer(tiny_model, 64)
    inputs = dict(tokenizer(sentences(16), padding=True, return_tensors="pt"))
    losses, gradients = {}, {}
    for name in ("float32", "int8", "int4"):
        net1 = pretrained.net1(split)
        pretrained.fill_net1(net1)
        net2, _ = pretrained.net2(split, seed=0, device=CPU)
        healer = Healer(
            pretrained.whole(seed=0),
            net1.eval(),
            net2.eval(),
            pretrained.family,
            split_layer=2,
            device=CPU,
            encoding=ENCODING_TABLE[name],
        )
        loss = healer.loss(inputs)
        loss.backward()
        losses[name] = loss.item()
        gradients[name] = [p.grad for p in net1.parameters() if p.grad is not None]
    assert losses["float32"] < 1e-10 < losses["int8"] < losses["int4"]
    assert gradients["int4"] and all(g.isfinite().all() and g.any() for g in gradients["int4"])


def student(folder: Path, split: SplitSpec) -> tuple[Healer, Net1, Net2]:
    """Return a healer of a cut with factors, and the two halves that it teaches."""
    pretrained = Pretrained(folder, num_labels=2, dropout=0.0)
    net1 = pretrained.net1(split)
    pretrained.fill_net1(net1)
    net2, u = pretrained.net2(split, seed=0, device=CPU)
    assert u is not None
    set_edge_factor(net1, u)
    whole: Any = pretrained.whole(seed=0)
    healer = Healer(whole, net1, net2, pretrained.family, split_layer=2, device=CPU)
    return healer, net1, net2


def test_the_cut_block_alone_is_healed_without_the_blocks_above(
    tiny_model: Path, text: Path
) -> None:
    healer, net1, net2 = student(tiny_model, SplitSpec(cut="sft", split_layer=2, rank=4))
    tokenizer = load_tokenizer(tiny_model, 64)
    inputs = dict(tokenizer(sentences(16), padding=True, return_tensors="pt"))
    before = {name: p.detach().clone() for name, p in net2.skeleton.named_parameters()}
    every_block = healer.loss(inputs).item()
    with healer.cut_block_alone():
        first = healer.step(inputs, 1e-2)
        assert healer.loss(inputs) < first != every_block
    moved = {n for n, p in net2.skeleton.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(name.startswith(f"{net2.block_name}.") for name in moved)
    healer.step(inputs, 1e-2)  # the blocks above are back
    highest = net2.skeleton.bert.encoder.layer[3].output.dense
    assert highest.weight.grad is not None

    now = {name: p.detach().clone() for name, p in net2.skeleton.named_parameters()}
    with torch.no_grad():
        net1.block.cut.get_parameter("u").fill_(torch.nan)
    with pytest.raises(TrainingError, match="became nan; choose a smaller --learning-rate"):
        healer.step(inputs, 1e-2)
    assert all(torch.equal(p, now[n]) for n, p in net2.skeleton.named_parameters())


def test_with_nothing_cut_away_there_is_nothing_to_heal(tiny_model: Path) -> None:
    """The student is the teacher, so its error is nothing from the start."""
    healer, _, _ = student(tiny_model, SplitSpec(cut="svd-residual", split_layer=2, rank=32))
    ids = torch.randint(5, 39, (4, 9))
    assert healer.loss({"input_ids": ids, "attention_mask": torch.ones_like(ids)}) < 1e-9


def test_bad_input_to_prepare(
    tiny_model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "three.txt").write_text("a\tb\n\na\tb\tc\n")
    (tmp_path / "empty.txt").write_text("\n one line \n")
    (tmp_path / "half.txt").write_text("a\n\tb\n")
    (tmp_path / "short.txt").write_text("a\nb\n")
    good = {
        "model": tiny_model,
        "text": text,
        "to": tmp_path / "new",
        "split-layer": 2,
        "rank": 4,
        "steps": 1,
        "local-steps": 0,
    }
    healed = tmp_path / "healed"
    line = [part for name, value in {**good, "to": healed}.items() for part in (f"--{name}", value)]
    code, shown = prepare(*line, capsys=capsys)
    assert code == 0, shown
    for changes, message in (
        ({"to": tmp_path / "there"}, "is there already; choose another --to"),
        ({"to": tmp_path / "a" / "b"}, "there is no folder"),
        ({"text": tmp_path / "no.txt"}, "cannot read"),
        ({"text": tmp_path / "empty.txt"}, "1 lines of text are too few"),
        ({"text": tmp_path / "three.txt"}, "three.txt line 3 has 3 columns, 0 of them empty"),
        ({"text": tmp_path / "half.txt"}, "half.txt line 2 has 2 columns, 1 of them empty"),
        (
            {"text": tmp_path / "short.txt"},
            "text has 6 tokens, a basis of rank 4 needs at least 16: with",
        ),
        ({"max-length": 3}, "--max-length 3 is outside 4..64: tiny-bert takes 64 tokens"),
        ({"model": healed}, "healed was prepared already, for cut stream in block 2 at rank 4"),
        ({"text": tiny_model / "model.safetensors"}, "cannot read"),
        ({"split-layer": 5}, "split layer 5 is outside 1..4"),
        ({"rank": 33}, "rank 33 is outside 1..32"),
        ({"cut": "none"}, "there is nothing to heal"),
        ({"cut": "sft", "decoder-layers": 1}, "1 decoder layers are outside 0..0 of the cut sft"),
        ({"model": tmp_path / "no"}, "there is no model folder"),
    ):
        options = {**good, **changes}
        line = [part for name, value in options.items() for part in (f"--{name}", value)]
        code, shown = prepare(*line, capsys=capsys)
        assert code == 1, shown
        (line_shown,) = shown.splitlines()
        assert line_shown.startswith("sft-cloud: ") and message in line_shown
        assert not (tmp_path / "new").exists()
