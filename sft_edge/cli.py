"""`sft-edge`: what a person types where the data is. torch and grpc are imported when needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sft_common import __version__
from sft_common.commandline import (
    OneLineParser,
    address,
    hide_download_bars,
    number_in,
    real_in,
    run_command,
)
from sft_common.completion import add_shells, script_for
from sft_common.config import CUTS, ENCODINGS
from sft_common.rpc.options import MAX_MESSAGE_MB, MOST_MESSAGE_MB
from sft_edge.defaults import CUT, MICRO_BATCHES, USUAL
from sft_edge.federation.options import add_join_options
from sft_edge.login import add_access_options, add_waiting_options
from sft_edge.pacing import AUTO
from sft_edge.tasks.table import TASKS

_MANY = 10**9


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (an error of the run) or 2 (wrong usage)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    options.given = given[1:]
    sys.exit(run_command("sft-edge", lambda: options.run_command(options)))


def parser() -> OneLineParser:
    """Return the parser of all commands."""
    top = OneLineParser(
        prog="sft-edge", description="The edge half of split fine-tuning: holds the data and net1."
    )
    top.add_argument("--version", action="version", version=f"sft-edge {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="fine-tune a model together with a cloud")
    _add_what(train)
    _add_cut(train)
    _add_auto(train)
    _add_wire(train)
    _add_edge(train)
    _add_how_long(train)
    _add_safety(train)
    _add_output(train)
    train.set_defaults(forecast=None)
    train.set_defaults(run_command=_train, parse_again=train.parse_args, wrong=train.error)
    _add_plan(commands, train)
    _add_afterwards(commands)
    join = commands.add_parser("join", help="take part in a federation that a cloud leads")
    add_join_options(join)
    join.set_defaults(run_command=_join)
    _add_doctor(commands)
    completion = commands.add_parser("completion", help="print a script for your shell's Tab key")
    add_shells(completion)
    completion.set_defaults(run_command=_completion)
    return top


def _add_plan(commands: argparse._SubParsersAction[OneLineParser], train: OneLineParser) -> None:
    plan = commands.add_parser(
        "plan", help="measure link and devices, and say how to cut, and how long a step will take"
    )
    _add_what(plan)
    _add_cut(plan)
    _add_wire(plan)
    _add_labels(plan.add_argument_group("what the edge does"))
    _add_how_long(plan)
    group = plan.add_argument_group("the plans")
    _add_limits(group)
    group.add_argument(
        "--tokens",
        type=number_in(1, _MANY),
        metavar="N",
        help="without --task: tokens of every example (default 128)",
    )
    group.add_argument(
        "--from",
        dest="from_file",
        type=Path,
        metavar="FILE",
        help="plan for the model, link and devices that are written in this file; nothing is "
        "measured",
    )
    group.add_argument(
        "--save", type=Path, metavar="FILE", help="write what was measured, for --from"
    )
    group.add_argument(
        "--top", type=number_in(1, _MANY), default=10, metavar="N", help="lines of the table"
    )
    group.add_argument("--quiet", action="store_true", help="do not say what is being measured")
    group.add_argument("--json", action="store_true", help="print JSON instead of a table")
    alone = train.parse_args([])
    plan.set_defaults(**vars(alone))
    plan.set_defaults(run_command=_plan, train_defaults=lambda: alone)


def _add_afterwards(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="evaluate a finished run, through the cloud")
    predict = commands.add_parser("predict", help="predict with a finished run, through the cloud")
    export = commands.add_parser("export", help="join both halves into one model folder")
    fetch = commands.add_parser("fetch", help="fetch the result of a frozen edge's training")
    for command in (evaluate, predict, export, fetch):
        command.add_argument(
            "--run", type=Path, required=True, metavar="DIR", help="the run's folder, runs/NAME"
        )
        _add_connection(command, default=None, note="default: the run's")
        command.add_argument("--model", metavar="DIR|ID", help="if the model has moved since")
    evaluate.add_argument("--data", type=Path, metavar="DIR", help="default: the run's")
    evaluate.add_argument("--eval-examples", type=number_in(1, _MANY), metavar="N")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.set_defaults(run_command=_evaluate)
    predict.add_argument(
        "text",
        nargs="*",
        help="one example each (default: one a line from standard input); a tab between the two "
        "texts of a pair, or between a question and its context; empty lines are left out",
    )
    predict.add_argument("--file", type=Path, help="read the examples from here, one a line")
    predict.add_argument(
        "--tokens",
        type=number_in(1, 10_000),
        default=20,
        metavar="N",
        help="how far a causal-lm goes on (default %(default)s)",
    )
    predict.add_argument("--json", action="store_true", help="print one JSON object a line")
    predict.set_defaults(run_command=_predict)
    export.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="a folder that is not there yet"
    )
    export.set_defaults(run_command=_export)
    _add_board(fetch)
    _add_shown(fetch)
    _add_retrying(fetch)
    fetch.set_defaults(run_command=_fetch)
    _add_report(commands)


def _add_report(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    report = commands.add_parser("report", help="draw a run, or several beside one another")
    report.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="a run's folder, runs/NAME; of several the page compares them",
    )
    report.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html in the run; of several runs comparison.html beside "
        "the first)",
    )
    report.set_defaults(run_command=_report)


def _add_doctor(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    doctor = commands.add_parser(
        "doctor", help="check this machine, the cloud and the link between, and say what to fix"
    )
    _add_connection(doctor, default="localhost:50051", note="default %(default)s")
    doctor.add_argument(
        "--model", metavar="DIR|ID", help="a model whose net1 is to fit into memory (default: none)"
    )
    doctor.add_argument(
        "--device", default="cpu", help="where net1 is to run (default %(default)s)"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON instead of lines")
    doctor.set_defaults(run_command=_doctor)


def _add_connection(command: argparse._ActionsContainer, *, default: str | None, note: str) -> None:
    command.add_argument(
        "--server",
        type=address,
        default=default,
        metavar="HOST:PORT",
        help=f"the cloud ({note})",
    )
    add_waiting_options(command)
    add_access_options(command)


def _add_what(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("what to train, and with whom")
    group.add_argument("--task", help=f"one of: {', '.join(TASKS)}")
    group.add_argument(
        "--model", metavar="DIR|ID", help="model folder or hub id (default: the task's)"
    )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with train and validation as .jsonl, .jsonl.gz, .csv or .parquet "
        "(default: the hub; for the demo: shipped)",
    )
    group.add_argument(
        "--text-column",
        "--image-column",
        action="append",
        metavar="NAME",
        help="own data: the column of the text, words or image; twice for a pair of texts",
    )
    group.add_argument("--label-column", metavar="NAME", help="own data: the column of the class")
    _add_connection(group, default="localhost:50051", note="default %(default)s")
    group.add_argument("--device", default="cpu", help="where net1 runs (default %(default)s)")


def _add_cut(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("where to cut")
    group.add_argument(
        "--cut",
        metavar="CUT",
        help=f"one of: {', '.join(CUTS)} (default: as the model was prepared, else {CUT}; sft: as "
        "in the paper; none: plain split learning)",
    )
    group.add_argument(
        "--split-layer",
        type=int,
        metavar="L",
        help="block to cut, 1 is the lowest (default: as prepared, else the last but one)",
    )
    group.add_argument(
        "--rank",
        type=int,
        metavar="R",
        help=f"numbers per token (default: as prepared, else for {CUT} cuts {USUAL[CUT].upper} in "
        f"the upper half of the blocks and {USUAL[CUT].lower} in the lower, {USUAL['sft'].upper} "
        "for others); cut none has none",
    )


def _add_auto(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("or: have the cut found (see `sft-edge plan`)")
    group.add_argument(
        "--auto",
        action="store_true",
        help="measure link and devices first, for a minute or two, and choose cut, block, rank, "
        "encoding and micro-batches, as far as none is named",
    )
    _add_limits(group)


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-accuracy-loss",
        type=real_in(0, 100),
        default=1.0,
        metavar="POINTS",
        help="leave plans out that are not known to lose at most so much; 100 leaves none out "
        "(default %(default)g)",
    )
    group.add_argument(
        "--memory",
        type=real_in(0, 10**6),
        metavar="GB",
        help="what net1 and its training may take here (default: what is free)",
    )


def _micro_batches(text: str) -> int | str:
    return text if text == AUTO else number_in(1, _MANY)(text)


def _add_wire(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("how numbers travel")
    group.add_argument(
        "--max-message",
        type=number_in(1, MOST_MESSAGE_MB),
        default=MAX_MESSAGE_MB,
        metavar="MB",
        help="largest tensor of a request or an answer; the cloud has its own limit "
        "(default %(default)s)",
    )
    group.add_argument(
        "--micro-batches",
        type=_micro_batches,
        metavar="N",
        help="cut a batch into N parts: while one travels, the next is computed; "
        f"{AUTO} tries a few numbers (default {MICRO_BATCHES}; frozen: 1)",
    )
    group.add_argument(
        "--encoding",
        choices=ENCODINGS,
        help=f"of activations (default: {USUAL[CUT].encoding} for {CUT} cuts, "
        f"{USUAL['sft'].encoding} for others)",
    )
    group.add_argument(
        "--grad-encoding",
        choices=ENCODINGS,
        help="of their gradients, rounded stochastically (default: as --encoding)",
    )


def _add_edge(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("what the edge does")
    _add_labels(group)
    group.add_argument(
        "--edge",
        choices=("trained", "frozen"),
        default="trained",
        help="frozen: net1 keeps its numbers, every example is sent once, and the cloud trains "
        "alone (default %(default)s)",
    )
    group.add_argument(
        "--detach",
        action="store_true",
        help="with --edge frozen: leave when all is sent; `sft-edge fetch` gets the result",
    )


def _add_labels(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--labels",
        choices=("cloud", "edge"),
        default="cloud",
        help="where the loss is computed. edge: labels do not leave this machine; logits come down "
        "and their gradient goes up, a second round trip a step (default %(default)s)",
    )


def _add_how_long(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("how to train (defaults: the task's, from the paper)")
    count, share = number_in(1, _MANY), real_in(0, 0.999)
    group.add_argument("--epochs", type=count, metavar="N", help="passes over the training part")
    group.add_argument("--max-steps", type=count, metavar="N", help="stop after N steps")
    group.add_argument("--batch-size", type=count, metavar="N", help="examples of a step")
    group.add_argument(
        "--group-by-length",
        action="store_true",
        help="fill batches with examples of about one length: less padding to compute",
    )
    group.add_argument("--learning-rate", type=real_in(0, 1), metavar="RATE", help="its peak")
    group.add_argument("--max-length", type=count, metavar="TOKENS", help="cut longer examples")
    group.add_argument("--train-examples", type=count, metavar="N", help="use only the first N")
    group.add_argument("--eval-examples", type=count, metavar="N", help="use only the first N")
    group.add_argument(
        "--dropout",
        type=share,
        metavar="P",
        help="for every dropout layer (default: the model's own; none on the edge below a cut "
        "that sends a code)",
    )
    group.add_argument(
        "--seed", type=number_in(0, 2**63 - 1), default=0, metavar="N", help="default %(default)s"
    )
    group.add_argument(
        "--unsplit",
        action="store_true",
        help="afterwards train the same model in one process, for comparison",
    )


def _add_safety(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("what happens when something breaks")
    group.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with a run that was stopped or killed, runs/NAME (default: the last in "
        "--runs-dir); its options need not be given again",
    )
    group.add_argument(
        "--snapshot-every",
        type=number_in(0, _MANY),
        default=100,
        metavar="N",
        help="steps between two snapshots of both halves; 0: none (default %(default)s)",
    )
    group.add_argument(
        "--snapshots",
        type=number_in(1, 1000),
        default=2,
        metavar="N",
        help="snapshots of this half that are kept (default %(default)s)",
    )
    _add_retrying(group)
    group.add_argument(
        "--wait",
        type=real_in(0, 10**7),
        default=0.0,
        metavar="SECONDS",
        help="how long to wait for room on a cloud that is full (default %(default)g)",
    )


def _add_retrying(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--retry-for",
        type=real_in(0, 10**7),
        default=3600.0,
        metavar="SECONDS",
        help="how long to try again when the cloud is lost; 0: not at all (default %(default)g)",
    )
    command.add_argument(
        "--retry-pause",
        type=real_in(0.5, 10**7),
        default=30.0,
        metavar="SECONDS",
        help="longest pause between two tries; they begin with half a second (default %(default)g)",
    )


def _add_output(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("what is left, what is shown")
    group.add_argument("--name", help="name of the run (default: task, cut and time)")
    group.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="default %(default)s"
    )
    _add_board(group)
    _add_shown(group)


def _add_board(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--tensorboard",
        type=Path,
        nargs="?",
        const=True,
        metavar="DIR",
        help="write a log for TensorBoard too (default DIR: tensorboard in the run's folder)",
    )


def _add_shown(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--log-every", type=number_in(1, _MANY), default=10, metavar="N", help="steps per log line"
    )
    group.add_argument("--quiet", action="store_true", help="show errors only")
    group.add_argument("--json", action="store_true", help="print metrics.json instead of a table")


def _train(options: argparse.Namespace) -> None:
    if options.resume is not None:
        from sft_edge.resuming import resumed_options

        given, parse = options.given, options.parse_again
        options = resumed_options(options, lambda known: parse(given, known))
    elif options.task is None:
        options.wrong("the following arguments are required: --task")
    if options.quiet or not sys.stderr.isatty():
        hide_download_bars()
    from sft_edge.run import run_training

    run_training(options)


def _join(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.federation.command import run_join

    run_join(options)


def _plan(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.planner.command import run_plan

    run_plan(options)


def _evaluate(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.afterwards import run_evaluation

    run_evaluation(options)


def _predict(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.afterwards import run_prediction

    run_prediction(options)


def _export(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.export import run_export

    run_export(options)


def _fetch(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.fetching import run_fetch

    run_fetch(options)


def _report(options: argparse.Namespace) -> None:
    from sft_edge.report.writing import run_report

    run_report(options)


def _doctor(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.doctor.command import run_doctor

    run_doctor(options)


def _completion(options: argparse.Namespace) -> None:
    print(script_for(options.shell, parser(), {"task": TASKS, "cut": CUTS}))
