"""Where the seconds of a step go at BERT-base, l = 11, 32 examples of 66 tokens, beside the model.

    python -m benchmarks.breakdown --data DIR [--quick] [--json FILE]

Both programs, on a core each and over loopback, with a BERT-base of random numbers; the sentences
are real, several joined to fill 66 tokens. The run's own metrics.json says what it did. One
micro-batch, so that nothing of it is hidden behind anything else: every second that neither half
computed is overhead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.programs import LocalCloud, both_cores, command, last_line, on_core
from benchmarks.report import Benchmark, Figure, Found, progress
from benchmarks.step import BATCH_SIZE
from benchmarks.step_edges import PADDED, write_bert_base
from sft_common.config import ENCODINGS
from sft_common.errors import SftError
from sft_common.model.sources import DEMO_MODEL, find_model
from sft_common.model.tokenizer import load_tokenizer
from sft_edge.tasks.sources import TRAIN, rows_of
from sft_edge.tasks.table import find_task

STEPS, QUICK_STEPS = 4, 3

ROUNDS, QUICK_ROUNDS = 3, 1

QUICK_ENCODINGS = ("float32", "int4")

JOINED = 30
"""Sentences of SST-2 that surely have 66 tokens together."""

CODEC = ("encode", "decode", "cloud_codec")

OVERHEAD = (*CODEC, "wire", "queue")


def write_model(folder: Path) -> None:
    """Write a BERT-base with random numbers and the tokenizer of the demo's model."""
    write_bert_base(folder)
    load_tokenizer(find_model(DEMO_MODEL).folder, 2**31).save_pretrained(folder)


def write_rows(source: Path, folder: Path, steps: int) -> None:
    """Write a training part of full examples, and one to evaluate."""
    task = find_task("sst2")
    (column,) = task.columns
    needed = steps * BATCH_SIZE
    rows = rows_of(task, source, TRAIN, needed * JOINED)
    sentences = [row.values[column] for row in rows]
    folder.mkdir()
    examples = [
        {"sentence": " ".join(sentences[at : at + JOINED]), "label": at // JOINED % 2}
        for at in range(0, needed * JOINED, JOINED)
    ]
    for part, chosen in (("train", examples), ("validation", examples[:1])):
        lines = (json.dumps(example) for example in chosen)
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n")


def run(folder: Path, server: str, core: int, cut: str, encoding: str) -> dict[str, float]:
    """Train once; returns the seconds of a step by what they went into."""
    where = ("--model", folder / "model", "--data", folder / "data", "--server", server)
    what = ("--task", "sst2", "--cut", cut, "--split-layer", 11, "--rank", 8)
    how = ("--epochs", 1, "--batch-size", BATCH_SIZE, "--max-length", PADDED)
    wire = ("--encoding", encoding, "--micro-batches", 1)
    show = ("--runs-dir", folder / "runs", "--quiet", "--json")
    program = command("sft_edge", "train", *where, *what, *how, *wire, *show)
    done = subprocess.run(on_core(core, program), capture_output=True, text=True)
    if done.returncode:
        raise SftError(last_line(done.stderr))
    metrics = json.loads(done.stdout)
    seconds = metrics["breakdown"]
    seconds["wire"] = seconds["up"] + seconds["down"]
    return {name: seconds[name] / metrics["steps"] for name in ("edge", "cloud", *OVERHEAD)}


def figures_of(name: str, rounds: list[dict[str, float]]) -> Iterator[Figure]:
    """Yield what one way to train found, medians over rounds."""
    for part in rounds[0]:
        milliseconds = 1e3 * statistics.median(found[part] for found in rounds)
        yield Figure(name=f"{name}: {part}, ms a step", value=milliseconds)

    def share(parts: Sequence[str]) -> float:
        return statistics.median(
            sum(found[part] for part in parts) / sum(found.values()) for found in rounds
        )

    yield Figure(name=f"{name}: overhead, share of a step", value=share(OVERHEAD), at_most=0.03)
    goal = {"at_most": 0.05} if "int" in name else {}
    yield Figure(name=f"{name}: encoding, share of a step", value=share(CODEC), **goal)


def measure(options: argparse.Namespace) -> Found:
    """Measure the encodings in turn."""
    steps = QUICK_STEPS if options.quick else STEPS
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    encodings = QUICK_ENCODINGS if options.quick else ENCODINGS
    found: dict[str, list[dict[str, float]]] = {name: [] for name in encodings}
    edge, cloud_core = both_cores()
    with tempfile.TemporaryDirectory(prefix="sft-breakdown-") as place:
        folder = Path(place)
        write_model(folder / "model")
        write_rows(options.data, folder / "data", steps)
        serve = command("sft_cloud", "serve", "--cpu", "--grace", 1)
        with LocalCloud(folder, on_core(cloud_core, serve)) as cloud:
            for number in range(1, rounds + 1):
                for encoding in encodings:
                    progress(f"{encoding}, round {number} of {rounds}")
                    taken = run(folder, cloud.address(), edge, options.cut, encoding)
                    found[encoding].append(taken)
    figures = [figure for name, each in found.items() for figure in figures_of(name, each)]
    return Found(figures, {"rounds": found})


if __name__ == "__main__":
    benchmark = Benchmark("breakdown", __doc__)
    benchmark.parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="of sst2")
    benchmark.parser.add_argument("--cut", default="sft")
    benchmark.run(measure)
