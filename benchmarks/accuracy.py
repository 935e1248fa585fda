"""Accuracy of the cuts through the real programs: the shape of Table I and Figs. 2 and 3 of SFT.

    python -m benchmarks.accuracy --out FILE.jsonl --tasks sst2 cola --cuts uncut sft:5:8
    python -m benchmarks.accuracy --out FILE.jsonl --quick        # minutes: proves the harness
    python -m benchmarks.draw_accuracy FILE.jsonl --to DIR        # table and figures

It starts one `sft-cloud serve` on loopback and one `sft-edge train` for every task, cut and seed;
nothing is trained in this process. "uncut" is the cut "none" (plain split learning) in the last
block but one: nothing is compressed, so mathematically it is the unsplit model. The file grows by a
line a run; the same command again goes on where it ended and tries failed runs again. Threads:
OMP_NUM_THREADS is handed on to both programs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.accuracy_results import Line, ResultsFile
from benchmarks.accuracy_runs import Place, execute
from benchmarks.accuracy_summary import summary
from benchmarks.accuracy_table import table
from benchmarks.grid import Cut, Limit, Run, cheap_first, limits_of, plan
from benchmarks.grid_healed import healed_models
from benchmarks.grid_options import cut_from, extra_from, limit_from, task_from
from benchmarks.programs import LocalCloud, ended_by_signals, machine
from sft_common.commandline import OneLineParser, number_in, run_command
from sft_common.config import ModelShape
from sft_common.errors import SftError
from sft_common.files import written_aside
from sft_common.model.sources import DEMO_MODEL, Source, find_model

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TASKS = ["sst2", "cola", "mrpc", "rte", "stsb"]
CUTS = ["uncut", "sft:5:8", "stream:5:8", "sft:2:8", "stream:2:8"]
SEEDS = [0, 1, 2]

QUICK_TASKS = ["sst2", "stsb"]
QUICK_CUTS = ["uncut", "sft:5:8", "stream:2:8"]
QUICK_SEEDS = [0]
QUICK_LIMIT = Limit(256, 1)
QUICK_EVAL_EXAMPLES = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (a run failed, or could not start) or 2 (usage)."""
    options = parser().parse_args(arguments)
    sys.exit(run_command("accuracy", lambda: benchmark(options)))


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = OneLineParser(prog="python -m benchmarks.accuracy", description=__doc__.splitlines()[0])
    _add_grid(top)
    top.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="grows, resumes")
    top.add_argument("--json", type=Path, metavar="FILE", help="write the summary of --out here")
    return top


def _add_grid(top: argparse.ArgumentParser) -> None:
    seed, count = number_in(0, 2**63 - 1), number_in(1, 10**9)
    top.add_argument(
        "--tasks", nargs="+", type=task_from, metavar="TASK", help=f"default: {' '.join(TASKS)}"
    )
    top.add_argument(
        "--cuts",
        nargs="+",
        type=cut_from,
        metavar="CUT:LAYER:RANK",
        help="or uncut; :ENCODING[/ENCODING OF GRADIENTS] and :frozen (edge) may follow; "
        f"default: {' '.join(CUTS)}",
    )
    top.add_argument(
        "--healed",
        nargs="+",
        default=[],
        metavar="DIR",
        help="further cuts: models that sft-cloud prepare made of --model; more may follow too",
    )
    top.add_argument("--seeds", nargs="+", type=seed, metavar="N", help="default: 0 1 2")
    top.add_argument(
        "--data", type=Path, default=DATA, metavar="DIR", help="a folder for each task"
    )
    top.add_argument("--model", default=DEMO_MODEL, metavar="DIR|ID", help="default: %(default)s")
    top.add_argument(
        "--limit",
        action="append",
        default=[],
        type=limit_from,
        metavar="TASK=EXAMPLES:EPOCHS",
        help="train on the first so many, so often; may be repeated (default: the task's own)",
    )
    top.add_argument("--eval-examples", type=count, metavar="N", help="use only the first N")
    top.add_argument(
        "--extra",
        type=extra_from,
        default="",
        metavar="OPTIONS",
        help='for sft-edge train as they are, such as --extra="--batch-size 16"',
    )
    top.add_argument("--quick", action="store_true", help="a tiny grid where no other is given")


def benchmark(options: argparse.Namespace) -> None:
    """Run what is missing in the file of results, then show and save what it says.

    Raises:
        SftError: a bad option, the cloud does not start, or runs failed; the message says which.
        OSError: a file cannot be read or written.
    """
    source = find_model(options.model)
    shape = shape_of_model(source)
    healed = healed_models(options.healed, source.name)
    runs = runs_of(options, source.name, shape, list(healed))
    with ResultsFile(options.out) as results:
        done = results.done()
        missing = [run for run in runs if run.key() not in done]
        print(f"{len(runs)} runs, {len(runs) - len(missing)} of them in {options.out} already")
        places = {cut.healed: str(folder) for cut, folder in healed.items()}
        failed = run_all(missing, results, options, shape, places)
    if results.done():
        print(f"\n{table(results.lines)}", end="")
    if options.json:
        save_summary(options.json, results.lines)
    if failed:
        raise SftError(
            f"{failed} of {len(missing)} runs failed; {options.out} says why, "
            "and the same command tries them again"
        )


def runs_of(
    options: argparse.Namespace, model: str, shape: ModelShape, healed: Sequence[Cut]
) -> list[Run]:
    """Return the runs that the options ask for, in order.

    Raises:
        ConfigError: they do not fit together, or not the model.
        DataError: the data of a task are missing.
    """
    quick = options.quick
    tasks = options.tasks or (QUICK_TASKS if quick else TASKS)
    limits = limits_of(tasks, options.limit, QUICK_LIMIT if quick else None)
    return plan(
        limits=cheap_first(limits, options.data),
        cuts=[*(options.cuts or map(cut_from, QUICK_CUTS if quick else CUTS)), *healed],
        seeds=options.seeds or (QUICK_SEEDS if quick else SEEDS),
        shape=shape,
        model=model,
        eval_examples=options.eval_examples or (QUICK_EVAL_EXAMPLES if quick else None),
        extra=options.extra,
    )


def run_all(
    runs: Sequence[Run],
    results: ResultsFile,
    options: argparse.Namespace,
    shape: ModelShape,
    healed: Mapping[str, str],
) -> int:
    """Train one run after the other against one cloud; returns how many failed.

    Whatever ends this also ends the cloud, and nothing but the results stays.
    """
    failed = 0
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="sft-accuracy-") as scratch:
        place = Place(
            model=options.model,
            healed=healed,
            shape=shape,
            data=options.data,
            runs=Path(scratch) / "runs",
            machine=machine(),
        )
        with LocalCloud(Path(scratch)) as cloud:
            for number, run in enumerate(runs, start=1):
                line = execute(run, cloud, place)
                results.append(line)
                failed += "error" in line
                print(f"[{number}/{len(runs)}] {run.label()}: {said(line)}", flush=True)
    return failed


def said(line: Line) -> str:
    """Return the outcome of a run in a few words."""
    if "error" in line:
        return f"failed: {line['error']}"
    metric, seconds = line["metric"], line["seconds"]["process"]
    return f"{metric['name']} {100 * metric['value']:.2f} %, {line['steps']} steps, {seconds:.1f} s"


def save_summary(path: Path, lines: Sequence[Line]) -> None:
    """Write the summary of the whole file of results as JSON."""
    with written_aside(path) as aside:
        arguments = shlex.join(sys.argv[1:])
        aside.write_text(json.dumps({"arguments": arguments, **summary(lines)}, indent=2) + "\n")


def shape_of_model(source: Source) -> ModelShape:
    """Return the sizes of a model.

    Raises:
        ModelError: it cannot be read, or is of no supported family.
    """
    from sft_common.model.families import shape_of
    from sft_common.model.loading import Pretrained

    return shape_of(Pretrained(source.folder, num_labels=2).config)


if __name__ == "__main__":
    main()
