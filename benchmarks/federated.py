"""Federations of ten clients on real data: accuracy, bytes, local operations and memory, by method.

    python -m benchmarks.federated --out FILE.jsonl                # an hour and a half on two cores
    python -m benchmarks.federated --out FILE.jsonl --quick        # minutes: proves that it works
    python -m benchmarks.draw_federated FILE.jsonl --to DIR        # table and picture

Each run is one `sft-cloud serve --federation FILE` on loopback and ten `sft-edge join`, a process
each, whose examples `sft-edge shard` has dealt; five of them train in a round. SST-2 and MRPC with
all-MiniLM-L6-v2, scikit-learn's digits with a small ViT (federated_digits.py). The file grows by a
line a run; the same command again goes on where it ended and tries failed runs again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy import DATA
from benchmarks.accuracy_results import Line, ResultsFile
from benchmarks.federated_data import Material
from benchmarks.federated_grid import (
    DATA_SETS,
    IID,
    METHODS,
    SPLITS,
    USUAL_SPLITS,
    Run,
    key_of,
    planned,
)
from benchmarks.federated_run import execute
from benchmarks.federated_table import summary, table
from benchmarks.programs import ended_by_signals, machine
from benchmarks.report import progress
from sft_common.commandline import OneLineParser, number_in, real_in, run_command
from sft_common.errors import SftError
from sft_common.files import written_aside

QUICK = {"examples": 320, "eval_examples": 32, "rounds": 2, "epochs": 1}

QUICK_RUNS = {
    ("digits", IID): (*METHODS,),
    ("digits", SPLITS[1]): ("fedavg",),
    ("sst2", IID): ("sfprompt + stream",),
    ("mrpc", IID): ("fedavg",),
}
"""Methods by data set and split: each of them once."""

PRETRAINING, QUICK_PRETRAINING = 30, 1
"""Epochs of the ViT on public digits."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (a run failed, or could not start) or 2 (usage)."""
    options = parser().parse_args(arguments)
    sys.exit(run_command("federated", lambda: benchmark(options)))


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = OneLineParser(prog="python -m benchmarks.federated", description=__doc__.splitlines()[0])
    top.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="grows, resumes")
    top.add_argument("--json", type=Path, metavar="FILE", help="write the summary of --out here")
    top.add_argument("--quick", action="store_true", help="tiny federations of two rounds")
    top.add_argument("--data", nargs="+", choices=DATA_SETS, help="default: all of them")
    top.add_argument("--splits", nargs="+", choices=SPLITS, help="default: the first two")
    top.add_argument("--methods", nargs="+", choices=METHODS, help="default: all of them")
    top.add_argument(
        "--folder", type=Path, default=DATA, metavar="DIR", help="holds folders sst2 and mrpc"
    )
    count = number_in(1, 10**6)
    top.add_argument("--examples", type=count, metavar="N", help="of all clients together")
    top.add_argument("--eval-examples", type=count, metavar="N", help="use only the first N")
    top.add_argument("--rounds", type=count, metavar="N")
    top.add_argument("--epochs", type=count, metavar="N", help="local ones")
    top.add_argument("--tail", type=count, metavar="BLOCK", help="SFPrompt's begins at its end")
    top.add_argument("--learning-rate", type=real_in(0, 10), metavar="RATE")
    top.add_argument("--seed", type=number_in(0, 2**63 - 1), metavar="N")
    return top


def benchmark(options: argparse.Namespace) -> None:
    """Run what is missing in the file of results, then show and save what it says.

    Raises:
        SftError: a bad option, or runs failed; the message says which.
        OSError: a file cannot be read or written.
    """
    runs = runs_of(options)
    with ResultsFile(options.out, key_of) as results:
        done = results.done()
        missing = [run for run in runs if run.key() not in done]
        progress(f"{len(runs)} runs, {len(runs) - len(missing)} of them in {options.out} already")
        failed = run_all(missing, results, options)
        if results.done():
            print(table(results.lines), end="")
        if options.json:
            save_summary(options.json, results.lines)
    if failed:
        raise SftError(
            f"{failed} of {len(missing)} runs failed; {options.out} says why, "
            "and the same command tries them again"
        )


def runs_of(options: argparse.Namespace) -> list[Run]:
    """Return the runs that the options ask for, in order."""
    names = ("examples", "eval_examples", "rounds", "epochs", "tail", "learning_rate", "seed")
    given = {name: getattr(options, name) for name in names}
    if options.quick:
        given |= {name: value for name, value in QUICK.items() if given[name] is None}
    data, splits = options.data or [*DATA_SETS], options.splits or USUAL_SPLITS
    runs = planned(data, splits, options.methods or [*METHODS], **given)
    if options.quick:
        return [run for run in runs if run.method in QUICK_RUNS.get((run.data, run.split), ())]
    return runs


def run_all(runs: Sequence[Run], results: ResultsFile, options: argparse.Namespace) -> int:
    """Run one federation after the other; returns how many failed."""
    failed, where = 0, machine()
    pretraining = QUICK_PRETRAINING if options.quick else PRETRAINING
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="sft-federated-") as scratch:
        material = Material(Path(scratch), options.folder, pretraining=pretraining)
        for number, run in enumerate(runs, start=1):
            line = execute(run, material, where)
            results.append(line)
            failed += "error" in line
            progress(f"[{number}/{len(runs)}] {run.label()}: {said(line)}")
    return failed


def said(line: Line) -> str:
    """Return the outcome of a run in a few words."""
    if "error" in line:
        return f"failed: {line['error']}"
    each = line["client_round"]
    moved = (each["up"] + each["down"]) / 1e6
    return (
        f"accuracy {line['accuracy']:.1%}, a client and round {moved:.2f} MB and "
        f"{each['flops'] / 1e9:.1f} GFLOP, {line['seconds']:.0f} s"
    )


def save_summary(path: Path, lines: Sequence[Line]) -> None:
    """Write the summary of the whole file of results as JSON."""
    with written_aside(path) as aside:
        arguments = shlex.join(sys.argv[1:])
        aside.write_text(json.dumps({"arguments": arguments, **summary(lines)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
