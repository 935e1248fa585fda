"""What the file of a federation says that benchmarks/federated.py runs."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.federated_grid import AS_PUBLISHED, CLIENTS, DATA_SETS, METHODS, Run
from sft_edge.tasks.table import TASKS

PER_ROUND = 5

BATCH_SIZE = 16
"""Half of what is published: a client has 80 to 160 examples, and 32 make few steps of them."""

KEEP, PROMPTS = 0.5, 5
"""gamma and the soft prompts of SFPrompt, as published."""

LAYER = 2
"""The block in which a client's share of a split model ends."""

Table = dict[str, Any]


def name_of(run: Run) -> str:
    """Return what the run's federation is called."""
    return "-".join([run.data, *run.split.split(), *run.method.replace("+", "").split()])


def federation_file(run: Run, model: str) -> str:
    """Return what the federation's file says.

    Args:
        run: which federation.
        model: a folder, or a name that the cloud knows.
    """
    about, method = DATA_SETS[run.data], METHODS[run.method]
    training: Table = {
        "epochs": run.epochs,
        "batch_size": BATCH_SIZE,
        "learning_rate": run.learning_rate,
        "evaluate_every": 0,  # evaluations would cost bytes, and count among those of a round
    }
    if method == "sfprompt":
        training |= {"keep": KEEP, "prompts": PROMPTS}
    tables: dict[str, Table] = {
        "clients": {"per_round": PER_ROUND, "minimum": CLIENTS, "quorum": PER_ROUND},
        "training": training,
        **_cuts(run),
    }
    plain = {
        "name": name_of(run),
        "method": method,
        "model": model,
        "kind": TASKS[about.task].kind,
        "labels": list(about.labels),
        "rounds": run.rounds,
        "seed": run.seed,
    }
    lines = _lines(plain)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _cuts(run: Run) -> dict[str, Table]:
    if run.method == "fedavg":
        return {}
    plain: Table = {"cut": "none", "split_layer": LAYER}
    if METHODS[run.method] != "sfprompt":
        return {"cut": plain}
    if run.method in ("sfprompt", AS_PUBLISHED):
        return {"cut": plain, "tail": {"cut": "none-end", "split_layer": run.tail}}
    first, second = DATA_SETS[run.data].ranks
    coded = {"encoding": "int8", "gradient_encoding": "int4"}
    cut = {"cut": "stream", "split_layer": LAYER, "rank": first, **coded}
    tail = {"cut": "stream-end", "split_layer": run.tail, "rank": second, "encoding": "int8"}
    return {"cut": cut, "tail": tail}


def _lines(table: Table) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in table.items()]
