"""What is known of the accuracy of cuts, as `sft-edge plan` carries it along.

    python -m benchmarks.evidence

Reads the results of benchmarks/accuracy.py named below and writes sft_edge/planner/evidence.json:
for every cut of a trained edge its gap to the uncut model of the same setting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.accuracy_results import Line, read_results
from benchmarks.accuracy_summary import Row, rows_from

RESULTS = Path(__file__).parent / "results"

SOURCES = ("2026-11-21-five-tasks", "2026-11-22-encodings", "2026-11-23-planner")
"""Files of results of one and the same setting for each task."""

MODELS = {"all-MiniLM-L6-v2": (6, 384)}
"""Model -> blocks and hidden width."""

TARGET = Path(__file__).parents[1] / "sft_edge" / "planner" / "evidence.json"


def read_all() -> list[Line]:
    """Return the lines of all sources."""
    return [line for name in SOURCES for line in read_results(RESULTS / f"{name}.jsonl")]


def evidence_from(lines: list[Line]) -> list[dict[str, Any]]:
    """Return what the lines say, one entry for each task and cut, in the order of the summary."""
    return list(_entries(lines))


def _entries(lines: list[Line]) -> Iterator[dict[str, Any]]:
    for row in rows_from(lines):
        if row.variant.edge == "trained" and row.variant.rank and row.gap is not None:
            yield _entry(row)


def _entry(row: Row) -> dict[str, Any]:
    blocks, hidden = MODELS[row.setting.model]
    up, _, down = row.variant.encoding.partition("/")
    return {
        "task": row.setting.task,
        "cut": row.variant.cut,
        "depth": round(row.variant.split_layer / blocks, 4),
        "share": round((row.variant.rank or hidden) / hidden, 4),
        "encodings": [up, down or up],
        "healed": bool(row.variant.healed),
        "gap": round(row.gap or 0.0, 2),
        "seeds": row.gap_seeds,
    }


def text_of(entries: list[dict[str, Any]]) -> str:
    """Return the file that holds some entries, one a line."""
    return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in entries) + "\n]\n"


if __name__ == "__main__":
    TARGET.write_text(text_of(evidence_from(read_all())), "utf-8")
