"""Peak memory of the edge by split layer at BERT-base, beside fine-tuning the whole model there.

    python -m benchmarks.memory [--quick] [--json FILE]

Each is a process of its own that takes a few steps of 32 examples of 66 tokens (step_edges.py); the
edges' cloud computes nothing, which they cannot tell. "Empty" is what Python, torch and
transformers take before there is a model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.null_cloud import null_cloud
from benchmarks.processes import peak_bytes
from benchmarks.report import Figure, benchmark_parser, show
from benchmarks.step import BATCH_SIZE
from benchmarks.step_edges import PADDED, write_bert_base

STEPS = 3

LAYERS = (1, 2, 4, 6, 8, 11)

QUICK_LAYERS = (2, 11)

EMPTY = "import sys, benchmarks.step_edges; print('ready', flush=True); sys.stdin.read()"


def peak_of(command: Sequence[str], steps: int) -> int:
    """Return the largest memory of a process that has taken some steps."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdout.readline()
        for _ in range(steps):
            process.stdin.write("0\n")
            process.stdin.flush()
            if not process.stdout.readline():
                raise RuntimeError(f"it died: {' '.join(command)}")
        return peak_bytes(process.pid)
    finally:
        process.communicate()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = benchmark_parser("memory", __doc__).parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sft-memory-") as place, null_cloud() as (port, _):
        model, lengths = Path(place) / "model", Path(place) / "lengths.json"
        write_bert_base(model)
        lengths.write_text(json.dumps([[PADDED] * BATCH_SIZE]))
        where = ["--model", str(model), "--lengths", str(lengths), "--rank", "8"]

        def edge(name: str, layer: int) -> list[str]:
            words = [*where, "--server", f"127.0.0.1:{port}", "--split-layer", str(layer)]
            return [sys.executable, "-m", "benchmarks.step_edges", name, *words]

        empty = peak_of([sys.executable, "-c", EMPTY], 0)
        whole = peak_of(edge("local", 1), STEPS)
        figures = [
            Figure(name="empty, MB", value=empty / 1e6),
            Figure(name="whole model on the edge, MB", value=whole / 1e6),
        ]
        for layer in QUICK_LAYERS if options.quick else LAYERS:
            peak = peak_of(edge("defaults", layer), STEPS)
            ratio = (whole - empty) / (peak - empty)
            figures += [
                Figure(name=f"split layer {layer}, MB", value=peak / 1e6),
                Figure(name=f"split layer {layer}, times less beyond empty", value=ratio),
            ]
    show("memory", figures, options)


if __name__ == "__main__":
    main()
