"""Peak memory of the edge by split layer at BERT-base, beside fine-tuning the whole model there.

    python -m benchmarks.memory [--quick] [--json FILE]

Each is a process of its own that takes a few steps of 32 examples of 66 tokens (step_edges.py); the
edges' cloud computes nothing, which they cannot tell. "Empty" is what Python, torch and
transformers take before there is a model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.driven import Driven
from benchmarks.null_cloud import null_cloud
from benchmarks.processes import peak_bytes
from benchmarks.report import Benchmark, Figure, Found, progress
from benchmarks.step import BATCH_SIZE
from benchmarks.step_edges import PADDED, write_bert_base

STEPS = 3

LAYERS = (1, 2, 4, 6, 8, 11)

QUICK_LAYERS = (2, 11)

EMPTY = "import sys, benchmarks.step_edges; print('ready', flush=True); sys.stdin.read()"


def peak_of(command: Sequence[str], steps: int, folder: Path) -> int:
    """Return the largest memory of a process that has taken some steps."""
    with Driven(command, folder / "edge.log") as process:
        for _ in range(steps):
            process.ask("0")
        return peak_bytes(process.pid)


def measure(options: argparse.Namespace) -> Found:
    """Measure the whole model, and the edge at every split layer."""
    with tempfile.TemporaryDirectory(prefix="sft-memory-") as place, null_cloud() as (port, _):
        folder = Path(place)
        model, lengths = folder / "model", folder / "lengths.json"
        write_bert_base(model)
        lengths.write_text(json.dumps([[PADDED] * BATCH_SIZE]))
        where = ["--model", str(model), "--lengths", str(lengths), "--rank", "8"]

        def edge(name: str, layer: int) -> int:
            progress(f"{name}, split layer {layer}")
            words = [*where, "--server", f"127.0.0.1:{port}", "--split-layer", str(layer)]
            program = [sys.executable, "-m", "benchmarks.step_edges", name]
            return peak_of([*program, *words], STEPS, folder)

        empty = peak_of([sys.executable, "-c", EMPTY], 0, folder)
        whole = edge("local", 1)
        figures = [
            Figure(name="empty, MB", value=empty / 1e6),
            Figure(name="whole model on the edge, MB", value=whole / 1e6),
        ]
        peaks: dict[int, int] = {}
        for layer in QUICK_LAYERS if options.quick else LAYERS:
            peaks[layer] = peak = edge("defaults", layer)
            ratio = (whole - empty) / (peak - empty)
            figures += [
                Figure(name=f"split layer {layer}, MB", value=peak / 1e6),
                Figure(name=f"split layer {layer}, times less beyond empty", value=ratio),
            ]
    return Found(figures, {"peak bytes": {"empty": empty, "whole": whole, "layers": peaks}})


if __name__ == "__main__":
    Benchmark("memory", __doc__).run(measure)
