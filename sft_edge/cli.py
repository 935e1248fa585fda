"""`sft-edge`: what a person types where the data is. torch and grpc are imported when needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sft_common import __version__
from sft_common.commandline import (
    OneLineParser,
    hide_download_bars,
    number_in,
    run_command,
)
from sft_common.completion import add_shells, script_for
from sft_common.config import CUTS
from sft_edge.federation.options import add_join_options
from sft_edge.shard.options import add_shard_options
from sft_edge.shared_options import (
    MANY,
    add_board,
    add_connection,
    add_retrying,
    add_shown,
)
from sft_edge.tasks.table import TASKS
from sft_edge.train_options import (
    add_cut,
    add_how_long,
    add_labels,
    add_limits,
    add_train_options,
    add_what,
    add_wire,
)


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
    add_train_options(train)
    train.set_defaults(forecast=None)
    train.set_defaults(run_command=_train, parse_again=train.parse_args, wrong=train.error)
    _add_plan(commands, train)
    _add_afterwards(commands)
    join = commands.add_parser("join", help="take part in a federation that a cloud leads")
    add_join_options(join)
    join.set_defaults(run_command=_join)
    _add_doctor(commands)
    shard = commands.add_parser("shard", help="split a data set into the folders of many clients")
    add_shard_options(shard)
    shard.set_defaults(run_command=_shard)
    completion = commands.add_parser("completion", help="print a script for your shell's Tab key")
    add_shells(completion)
    completion.set_defaults(run_command=_completion)
    return top


def _add_plan(commands: argparse._SubParsersAction[OneLineParser], train: OneLineParser) -> None:
    plan = commands.add_parser(
        "plan", help="measure link and devices, and say how to cut, and how long a step will take"
    )
    add_what(plan)
    add_cut(plan)
    add_wire(plan)
    add_labels(plan.add_argument_group("what the edge does"))
    add_how_long(plan)
    group = plan.add_argument_group("the plans")
    add_limits(group)
    group.add_argument(
        "--tokens",
        type=number_in(1, MANY),
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
        "--top", type=number_in(1, MANY), default=10, metavar="N", help="lines of the table"
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
        add_connection(command, default=None, note="default: the run's")
        command.add_argument("--model", metavar="DIR|ID", help="if the model has moved since")
    evaluate.add_argument("--data", type=Path, metavar="DIR", help="default: the run's")
    evaluate.add_argument("--eval-examples", type=number_in(1, MANY), metavar="N")
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
    add_board(fetch)
    add_shown(fetch)
    add_retrying(fetch)
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
    add_connection(doctor, default="localhost:50051", note="default %(default)s")
    doctor.add_argument(
        "--model", metavar="DIR|ID", help="a model whose net1 is to fit into memory (default: none)"
    )
    doctor.add_argument(
        "--device", default="cpu", help="where net1 is to run (default %(default)s)"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON instead of lines")
    doctor.set_defaults(run_command=_doctor)


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


def _shard(options: argparse.Namespace) -> None:
    hide_download_bars()
    from sft_edge.shard.command import run_shard

    run_shard(options)


def _completion(options: argparse.Namespace) -> None:
    print(script_for(options.shell, parser(), {"task": TASKS, "cut": CUTS}))
